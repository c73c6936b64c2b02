"""The process of the callers: `python -m voxthread.media_bench.callers PLAN`.

Commands: `open`, `port` (of the server, for one of the calls), `measure` (into a file, if one is named),
`churn`, `close`.
"""

import json
import sys
from typing import Any, Final

import msgspec

from voxthread.client.failures import BenchError
from voxthread.media_bench.crowd import Crowd
from voxthread.media_bench.placement import take_place
from voxthread.media_bench.plan import CallerPlan, Tracks, instant_us, read_file, write_file
from voxthread.media_bench.workers import tell

_SETTLE_US: Final = 100_000


def run(plan: CallerPlan) -> None:
    crowd = Crowd(plan.url, read_file(plan.tracks_file, Tracks), plan.conditions)
    tell({"place": take_place(plan.core, is_realtime=True)})
    while True:
        crowd.run(until_input=True)
        line = sys.stdin.readline()
        if not line:
            return
        try:
            tell(obey(crowd, **json.loads(line)))
        except BenchError as error:
            tell({"error": error.detail})


def obey(crowd: Crowd, *, command: str, **arguments: Any) -> dict[str, Any]:
    match command:
        case "open":
            opened = crowd.open(arguments["calls"])
            return {"media_after_us": [caller.call.media_after_us for caller in opened]}
        case "port":
            host, port = crowd.port_of_one()
            return {"host": host, "port": port}
        case "measure":
            measured = crowd.measure(arguments["seconds"])
            if "file" in arguments:
                write_file(arguments["file"], measured)
            return {}
        case "churn":
            churn(crowd, arguments["calls"], arguments["at_once"])
            return {}
        case _:
            crowd.close_all()
            return {}


def churn(crowd: Crowd, calls: int, at_once: int) -> None:
    """Open and close so many, some at a time."""
    for _ in range(0, calls, at_once):
        opened = crowd.open_at_once(at_once)
        crowd.run(instant_us() + _SETTLE_US)
        crowd.close(opened)


if __name__ == "__main__":
    run(msgspec.json.decode(sys.argv[1], type=CallerPlan))
