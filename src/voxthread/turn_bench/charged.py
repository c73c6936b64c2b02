"""Models in audio time: each computes while the clock stands, and its CPU time is then charged to the clock.

One thread each, as in a server, so a model's own requests queue; that two models share a core is not charged.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from time import process_time
from typing import Protocol

import anyio

from voxthread.core.audio import PcmFrame

Task = tuple[Future[str], Callable[[], str]]


class ChargedDecodings:
    """A `DecodingThread` without a thread."""

    def __init__(self) -> None:
        self._queued: deque[Task] = deque()
        self._is_running = False

    @property
    def is_idle(self) -> bool:
        return not self._is_running and not any(not future.cancelled() for future, _ in self._queued)

    def start(self, decode: Callable[[], str]) -> Future[str]:
        future: Future[str] = Future()
        self._queued.append((future, decode))
        if not self._is_running:
            self._run_next()
        return future

    def close(self) -> None:
        self._queued.clear()

    def _run_next(self) -> None:
        self._is_running = False
        while self._queued:
            future, decode = self._queued.popleft()
            if future.set_running_or_notify_cancel():
                self._is_running = True
                began_s = process_time()
                text = decode()
                asyncio.get_running_loop().call_later(process_time() - began_s, self._finish, future, text)
                return

    def _finish(self, future: Future[str], text: str) -> None:
        future.set_result(text)
        self._run_next()


class Judge(Protocol):
    """What `SmartTurn` does; blocking."""

    def judge(self, pcm: bytes) -> float: ...


class ChargedEndOfTurn:
    """An `EndOfTurn` that keeps the loop."""

    def __init__(self, model: Judge) -> None:
        self._model = model
        self._one_at_a_time = anyio.Lock()

    async def probability(self, audio: PcmFrame) -> float:
        async with self._one_at_a_time:
            began_s = process_time()
            probability = self._model.judge(audio.pcm)
            await anyio.sleep(process_time() - began_s)
            return probability
