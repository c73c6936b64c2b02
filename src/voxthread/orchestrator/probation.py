"""The sessions of this process that were at work when an owner died: any of them may be the one it died of."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio

_SUSPECTS_S: Final = 0.1
"""The partitions a dead process leaves are granted together, and recovered side by side."""

Note = Callable[[bool], Coroutine[Any, Any, None]]
"""Write down whether the session is the only one under suspicion here."""


class Probation:
    """Of all partitions of a process, which dies with all of them at once.

    Whoever joins is unsettled until it has lived on for a while. Those with a note are on probation: it is
    written down whether they are alone on it, should the next owner die too.
    """

    def __init__(self) -> None:
        self._suspects: set[str] = set()
        self._notes: dict[str, Note] = {}
        self._unsettled: set[str] = set()
        self._settled = anyio.Event()
        self._trial = anyio.Lock()

    async def is_only_suspect(self, session_id: str) -> bool:
        """Whether no other session was stuck at its work. Takes as long as other partitions may need to say."""
        self._suspects.add(session_id)
        await anyio.sleep(_SUSPECTS_S)
        return self._suspects == {session_id}

    async def join(self, session_id: str, note: Note | None = None) -> None:
        """Returns when all that changes by it is written down."""
        await self._join(session_id, note, is_alone=not self._notes)

    async def _join(self, session_id: str, note: Note | None, *, is_alone: bool) -> None:
        others = [*self._notes.values()]
        self._unsettled.add(session_id)
        async with anyio.create_task_group() as noting:
            for other in others:
                noting.start_soon(other, False)
            if note is not None:
                self._notes[session_id] = note
                noting.start_soon(note, is_alone)

    def settle(self, session_id: str) -> None:
        """It has lived on: what others die of from now on is not what it was at."""
        self._suspects.discard(session_id)
        self._unsettled.discard(session_id)
        if not self._unsettled:
            self._settled.set()
            self._settled = anyio.Event()

    def leave(self, session_id: str) -> None:
        self._notes.pop(session_id, None)
        self.settle(session_id)

    @asynccontextmanager
    async def trial(self, session_id: str, note: Note) -> AsyncIterator[None]:
        """Inside, nobody else is tried and all others are settled."""
        async with self._trial:
            while self._unsettled:
                await self._settled.wait()
            try:
                await self._join(session_id, note, is_alone=True)
                yield
            finally:
                self.leave(session_id)
            if len(self._notes) == 1:
                await next(iter(self._notes.values()))(True)
