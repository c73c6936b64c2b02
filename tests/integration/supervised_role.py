"""A role that does nothing: `supervised_role.py NAME MANNER`, until SIGTERM.

It says on standard error, in a line of JSON each, what became of it. Of manner "stubborn" it does not stop and
has a child that does not either; of manner "broken" it ends at once.
"""

import json
import os
import signal
import subprocess
import sys


def main(name: str, manner: str) -> int:
    def say(event: str, pid: int) -> None:
        words = {"event": event, "name": name, "worker_id": os.environ["VOXTHREAD_WORKER_ID"], "pid": pid}
        os.write(2, json.dumps(words).encode() + b"\n")

    if manner == "broken":
        return 3
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    if manner == "stubborn":
        say("child", subprocess.Popen(["sleep", "1000"]).pid)
    say("began", os.getpid())
    signal.sigwait({signal.SIGUSR1 if manner == "stubborn" else signal.SIGTERM})
    say("left", os.getpid())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
