"""What a session has been told and has not dealt with yet, in order."""

from collections import deque
from dataclasses import dataclass
from typing import Final

import anyio

from voxthread.core.inputs import Input
from voxthread.observability.metrics import AUDIO_DROPPED_SECONDS
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import InFact


@dataclass(frozen=True, slots=True)
class Arrived:
    """Something of the session on `voxthread.in`, and where."""

    position: int
    content: AudioRecord | InFact


Item = Arrived | Input


MAX_AUDIO_MS: Final = 40_000
"""More than a media process keeps while the log is away: all of it may come at once when the log is back."""


class Inbox:
    """Bounded in audio time: beyond `max_audio_ms` the oldest audio goes and is counted; facts never go."""

    def __init__(self, max_audio_ms: int = MAX_AUDIO_MS) -> None:
        self._max_audio_ms = max_audio_ms
        self._items: deque[Item] = deque()
        self._audio_ms = 0
        self._arrived = anyio.Event()

    def put(self, item: Item) -> None:
        self._items.append(item)
        if (audio_ms := _audio_ms(item)) > 0:
            self._audio_ms += audio_ms
            while self._audio_ms > self._max_audio_ms:
                self._drop_oldest_audio()
        self._arrived.set()

    async def get(self) -> Item:
        while not self._items:
            self._arrived = anyio.Event()
            await self._arrived.wait()
        item = self._items.popleft()
        self._audio_ms -= _audio_ms(item)
        return item

    def _drop_oldest_audio(self) -> None:
        for index, item in enumerate(self._items):
            if (audio_ms := _audio_ms(item)) > 0:
                del self._items[index]
                self._audio_ms -= audio_ms
                AUDIO_DROPPED_SECONDS.labels(direction="in").inc(audio_ms / 1000)
                return


def _audio_ms(item: Item) -> int:
    if isinstance(item, Arrived) and isinstance(item.content, AudioRecord):
        return item.content.duration_ms
    return 0
