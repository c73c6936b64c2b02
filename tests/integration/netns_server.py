"""A server of scripted engines that greets, configured by JSON on the command line; it ends with its stdin."""

import json
import sys
from collections.abc import AsyncIterator, Sequence

import anyio

from integration.faked_server import scripted_engines, serve_scripted
from voxthread.core.history import Message


class GreetingAgent:
    greeting = "Good day. " * 20

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        yield "Yes."


async def main(sections: str) -> None:
    engines = scripted_engines(agents={"greeting": GreetingAgent()})
    async with serve_scripted(engines, **json.loads(sections)) as served:
        sys.stdout.write(f"{served.url}\n")
        sys.stdout.flush()
        await anyio.to_thread.run_sync(sys.stdin.read)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
