"""What goes into speech-to-text besides audio, and what comes out."""

from dataclasses import dataclass
from enum import Enum


class Flush(Enum):
    """In the audio given to speech-to-text: the caller seems to have stopped, transcribe all so far."""

    FLUSH = "flush"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcript:
    """Text of all the audio of an utterance up to `end_ms`; a later transcript replaces an earlier one.

    `final` answers a `Flush` and covers everything before it; others are interim.
    """

    text: str
    final: bool
    end_ms: int
