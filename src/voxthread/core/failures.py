"""What can go wrong, as values and as exceptions.

    VoiceError
    ├── TranscriptionError   stage "stt"
    ├── LanguageModelError   stage "llm"
    ├── SynthesisError       stage "tts"
    ├── TurnModelError       stage "turn"
    ├── AgentError           stage "agent"
    ├── MediaError           stage "media"   (offers, peers)
    ├── BusError             stage "bus"
    ├── ModelFileError       stage "models"  (missing or corrupt model files)
    └── SessionError         stage "session" (ids, aliases, tokens)

Every error carries a dotted `code`, whether a retry may help, and the stage it happened in; `detail` says
what happened and what to do, and never holds a caller's words, a token or a credential.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An error as a fact that can travel: into the turn machine, onto the log, to the caller's screen."""

    code: str
    stage: str
    retryable: bool
    detail: str


class VoiceError(Exception):
    """Base of every error Voxthread raises on purpose."""

    stage: ClassVar[str] = "session"

    def __init__(self, code: str, detail: str, *, retryable: bool = False) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.retryable = retryable

    @property
    def failure(self) -> Failure:
        return Failure(code=self.code, stage=self.stage, retryable=self.retryable, detail=self.detail)


class TranscriptionError(VoiceError):
    stage = "stt"


class LanguageModelError(VoiceError):
    stage = "llm"


class SynthesisError(VoiceError):
    stage = "tts"


class TurnModelError(VoiceError):
    stage = "turn"


class AgentError(VoiceError):
    stage = "agent"


class MediaError(VoiceError):
    stage = "media"


class BusError(VoiceError):
    stage = "bus"


class ModelFileError(VoiceError):
    stage = "models"


class SessionError(VoiceError):
    stage = "session"
