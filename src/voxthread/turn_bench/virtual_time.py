"""An event loop whose time is that of the audio: nothing waits, and what takes time says how much.

When nothing is ready to run, time jumps to the next timer. Work done on the loop takes no time of its own;
models run on it too, and what they cost is slept afterwards (`charged.py`). So a call of a minute takes as
long as its models compute, and what it shows does not depend on what else the machine does.
"""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

START_MS = 1_700_000_000_000
"""The instant at which every such loop begins, in Unix milliseconds."""


class _Jumping(selectors.DefaultSelector):
    """Waits for timers by moving `now_s`; only what is ready already is selected."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if ready or timeout == 0:
            return ready
        if timeout is None:
            raise RuntimeError("every task waits, and no timer will wake any of them")
        self.now_s += timeout
        return ready


class AudioTimeLoop(asyncio.SelectorEventLoop):
    """For `anyio.run(..., backend_options=IN_AUDIO_TIME)`."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now_s


IN_AUDIO_TIME: Mapping[str, Any] = {"loop_factory": AudioTimeLoop}


def now_ms() -> int:
    """Unix milliseconds on the running `AudioTimeLoop`."""
    return START_MS + int(asyncio.get_running_loop().time() * 1000)
