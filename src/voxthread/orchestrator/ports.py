"""What the orchestrator needs from the world, in its own words; `app` hands it the adapters.

Everything that streams is a stream in and a stream out, and is cancelled by closing it. Adapters translate
their provider's exceptions into `VoiceError`s of their stage. One contract suite per port
(`tests/contract/`) is passed by every adapter and by the fake shipped in `voxthread.testing`.
"""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from voxthread.core.audio import PcmFrame
from voxthread.core.encoding import Encoding
from voxthread.core.history import Message
from voxthread.core.transcripts import Flush, Transcript


class SpeechToText(Protocol):
    def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        """Transcribe one utterance: 16 kHz frames, with a `Flush` wherever a final text is wanted.

        After a `Flush` more audio of the same utterance may follow. Ends when `audio` ends.
        Raises `TranscriptionError`.
        """
        ...


class LanguageModel(Protocol):
    def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        """Stream the assistant's next message. Closing the iterator stops generation.

        Raises `LanguageModelError`.
        """
        ...

    async def prefill(self, messages: Sequence[Message]) -> None:
        """Prepare for a reply to a conversation that begins like `messages`; may do nothing."""
        ...


class TextToSpeech(Protocol):
    def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        """Speak one clause or sentence, streaming inside it. Frames have any rate, the same in a call.

        Closing the iterator stops the synthesis within about one frame. Adapters that can are deterministic:
        the same text is the same samples in every process, which lets a takeover go on inside a sentence.
        Raises `SynthesisError`.
        """
        ...


class VoiceActivity(Protocol):
    """Speech detection with the state of one session."""

    @property
    def frame_samples(self) -> int:
        """How many 16 kHz samples `probability` takes at a time."""
        ...

    def probability(self, frame: PcmFrame) -> float:
        """How likely the frame is speech, 0 to 1. Under a millisecond: called on the event loop."""
        ...


class EndOfTurn(Protocol):
    async def probability(self, audio: PcmFrame) -> float:
        """How likely the speaker is done, 0 to 1, given the utterance so far (16 kHz, up to 8 s count).

        Raises `TurnModelError`.
        """
        ...


class OpusDecoder(Protocol):
    """Opus packets of one session to 16 kHz mono."""

    def decode(self, packet: bytes) -> bytes:
        """s16le of one packet. A packet that cannot be decoded is concealed, never an error."""
        ...

    def conceal(self, duration_ms: int, next_packet: bytes | None) -> bytes:
        """s16le for a hole: from `next_packet`'s in-band FEC if it has any, else extrapolated."""
        ...


class OpusEncoder(Protocol):
    """PCM of one reply, of any rate, to 20 ms Opus packets. Keeps what does not fill a packet."""

    def tune(self, encoding: Encoding) -> None:
        """Encode like that from the next packet on."""
        ...

    def encode(self, frame: PcmFrame) -> list[bytes]: ...

    def finish(self) -> list[bytes]:
        """The rest, padded with silence to a whole packet."""
        ...


class Agent(Protocol):
    """What a user writes: retrieval, a language model, tools or somebody's HTTP endpoint, all the same."""

    @property
    def greeting(self) -> str:
        """Spoken when the caller connects; empty to wait for the caller."""
        ...

    def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        """Stream the answer to `utterance`; `history` is what was said and heard before it.

        Closing the iterator stops the reply. With speculation on, as it is unless the configuration says
        otherwise, that also happens to replies nobody hears, because the caller went on speaking; and whoever
        takes a call over asks again for the reply it was at. Raise `VoiceError` for a failure the caller should
        hear of.
        """
        ...


@runtime_checkable
class PreparingAgent(Protocol):
    """An agent that gains from knowing early what it will be asked, e.g. by prefilling a prompt."""

    async def prepare(self, history: Sequence[Message], utterance: str) -> None:
        """Get ready to reply to a conversation that goes like this.

        `utterance` is empty when the caller has just connected, and unfinished while they speak. Cancelled
        when overtaken; what it does must have no effect that anybody could notice.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Engines:
    """The adapters of one orchestrator. Shared between sessions, but for what the factories make."""

    stt: SpeechToText
    tts: TextToSpeech
    end_of_turn: EndOfTurn
    open_voice_activity: Callable[[], VoiceActivity]
    open_decoder: Callable[[], OpusDecoder]
    open_encoder: Callable[[], OpusEncoder]
    agents: Mapping[str, Agent]
    """By name; the first is the default."""
