"""`make bench`: start a server with the `chat` agent, measure it, and write benchmarks/latency.json.

Beside `voxthread bench latency` it records how long the server took to be ready and what memory all its
processes hold after the last turn.
"""

import json
import subprocess
import sys
from pathlib import Path

from serving import VOXTHREAD, serving

RESULT = Path("benchmarks/latency.json")


def main(arguments: list[str]) -> int:
    with serving("examples/chat.py") as server:
        bench = subprocess.run(
            [VOXTHREAD, "bench", "latency", "--url", server.url, "--json", *arguments],
            stdout=subprocess.PIPE,
            check=False,
        )
        memory = server.memory_mb()
    if bench.returncode:
        return bench.returncode
    result = {**json.loads(bench.stdout), "ready_s": round(server.ready_s, 1), "memory_mb": round(memory)}
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    voice_to_voice = result["v2v_ms"]
    print(f"voice to voice: median {voice_to_voice['median']} ms, p95 {voice_to_voice['p95']} ms")
    print(f"ready after {server.ready_s:.1f} s, memory {memory:.0f} MB; written to {RESULT}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
