"""Processes that are told what to do line by line: a command and its arguments in, a JSON object out.

Their input is their life: a worker whose input has ended ends.
"""

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import msgspec
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from voxthread.client.failures import BenchError
from voxthread.media_bench.plan import CallerPlan, RubbishPlan, ServerPlan

_MAX_LINE_BYTES: Final = 1024 * 1024
_STOP_S: Final = 15
_START_S: Final = 60

Command = Callable[..., Awaitable[dict[str, Any]]]
Plan = CallerPlan | RubbishPlan | ServerPlan


class Worker:
    """`ready` is what it said when it was."""

    def __init__(self, name: str, process: Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self.ready: dict[str, Any] = {}
        self._name = name
        self._process = process
        self._input = process.stdin
        self._output = BufferedByteReceiveStream(process.stdout)

    async def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Raises `BenchError` if it ends instead of answering."""
        line = json.dumps({"command": command, **arguments}).encode() + b"\n"
        try:
            await self._input.send(line)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise self._ended() from None
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        try:
            line = await self._output.receive_until(b"\n", _MAX_LINE_BYTES)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.BrokenResourceError):
            raise self._ended() from None
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BenchError("bench.failed", f"{self._name}: {answer['error']}")
        return answer

    async def stop(self) -> None:
        with anyio.CancelScope(shield=True):
            await self._input.aclose()
            with anyio.move_on_after(_STOP_S):
                await self._process.wait()
            if self._process.returncode is None:
                self._process.kill()
            await self._process.aclose()

    def _ended(self) -> BenchError:
        return BenchError("bench.process_ended", f"{self._name} has ended; the reason is above")


@asynccontextmanager
async def open_worker(module: str, plan: Plan) -> AsyncIterator[Worker]:
    """The module of this package in a process of its own. Raises `BenchError`."""
    command = [sys.executable, "-m", f"voxthread.media_bench.{module}", msgspec.json.encode(plan).decode()]
    process = await anyio.open_process(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=None, start_new_session=True
    )
    worker = Worker(module, process)
    try:
        with anyio.fail_after(_START_S):
            worker.ready = await worker.answer()
        yield worker
    except TimeoutError:
        raise BenchError("bench.not_ready", f"{module} was not ready after {_START_S} s") from None
    finally:
        await worker.stop()


def tell(answer: Mapping[str, Any]) -> None:
    """In a worker: answer what was asked last."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


async def obey(ready: Mapping[str, Any], commands: Mapping[str, Command]) -> None:
    """In a worker with an event loop: say that it is ready, then do as told until the input ends."""
    tell(ready)
    async with await anyio.open_file(sys.stdin.fileno(), "rb", closefd=False) as lines:
        while line := await lines.readline():
            asked: dict[str, Any] = json.loads(line)
            tell(await commands[asked.pop("command")](**asked))
