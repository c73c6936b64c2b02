"""How long calls last, and what is said while one waits: the policy of the shell, beside that of the turns."""

from dataclasses import dataclass
from typing import Final

MEDIA_SILENCE_MS: Final = 90_000
"""A media process says something of each of its sessions more often than this, or ends it; one that has said
nothing for so long is gone, and its sessions with it."""

GOODBYE_MS: Final = 8_000
"""Before its end a call that has become too long is told so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPolicy:
    media_silence_ms: int = MEDIA_SILENCE_MS
    max_session_ms: int = 7_200_000
    goodbye: str = ""
    """Spoken `GOODBYE_MS` before the longest call ends, if nobody is speaking then."""
    closing_notice: str = ""
    """Spoken when the log is about to take nothing more and the call must end."""
    filler_ms: int = 0
    """An answer not begun for so long is preceded by `filler`; 0 says none."""
    filler: str = ""
