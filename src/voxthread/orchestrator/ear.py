"""The caller's audio: Opus packets off the log to 16 kHz frames, and speech found in them."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.speech import Edge, SpeechSegmenter
from voxthread.orchestrator.echo import WINDOW_MS
from voxthread.orchestrator.ports import OpusDecoder, VoiceActivity
from voxthread.wire.audio import AudioRecord, MalformedRecordError, decode_audio

PREROLL_MS = 320
"""Audio kept from before speech is noticed: the soft start of a word is part of it."""

WARM_MS = 1_000
"""Audio before an utterance that brings a fresh ear into the state the old one was in when it began."""

MAX_RECORD_MS = 2_000
"""Of one record; media writes 60 ms. What is missing in it costs little to say and much to conceal."""

_SAMPLE_BYTES = 2
_WINDOW_BYTES = WINDOW_MS * SPEECH_RATE_HZ // 1000 * _SAMPLE_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """One frame, and the edge of speech it lies on, if any."""

    frame: PcmFrame
    edge: Edge | None
    is_speech: bool
    is_paused: bool
    """Speech, as far as one can know, but silent by now."""


def decode_audible(value: bytes) -> AudioRecord:
    """Raises `MalformedRecordError`, also for audio that is too long to be a caller's."""
    audio = decode_audio(value)
    if audio.duration_ms > MAX_RECORD_MS:
        raise MalformedRecordError(f"{audio.duration_ms} ms of audio in one record")
    return audio


class Ear:
    """State of one session's listening. Positions count the audio heard, holes included."""

    def __init__(self, decoder: OpusDecoder, voice: VoiceActivity, segmenter: SpeechSegmenter) -> None:
        self._decoder = decoder
        self._voice = voice
        self._segmenter = segmenter
        self._frame_bytes = voice.frame_samples * _SAMPLE_BYTES
        self._pending = bytearray()
        self._newest = bytearray(_WINDOW_BYTES)
        self._heard_samples = 0
        self._preroll: deque[PcmFrame] = deque()
        self._trail: deque[tuple[int, int]] = deque()

    def assume(self, *, is_speaking: bool, is_paused: bool = False) -> None:
        """Believe what the ear before this one had told, to the frame."""
        self._segmenter.assume(is_speaking=is_speaking, is_paused=is_paused)

    @property
    def is_in_speech(self) -> bool:
        return self._segmenter.is_speaking

    @property
    def warm_position(self) -> int | None:
        """Where on the log the audio of `WARM_MS` ago lies; None before any was heard."""
        return self._trail[0][0] if self._trail else None

    @property
    def heard_ms(self) -> int:
        return self._heard_samples * 1000 // SPEECH_RATE_HZ

    @property
    def newest(self) -> bytes:
        """The last `WINDOW_MS` of frames, with silence before the first: an echo is looked for in them."""
        return bytes(self._newest)

    def hear(self, record: AudioRecord, position: int) -> Iterator[Heard]:
        """`position` is that of the record on `voxthread.in`."""
        heard_ms = self.heard_ms
        self._trail.append((position, heard_ms))
        while len(self._trail) > 1 and self._trail[1][1] <= heard_ms - WARM_MS:
            self._trail.popleft()
        for index, packet in enumerate(record.packets):
            if packet:
                self._pending += self._decoder.decode(packet)
            else:
                following = record.packets[index + 1] if index + 1 < len(record.packets) else b""
                self._pending += self._decoder.conceal(record.packet_ms, following or None)
            yield from self._frames()

    def take_preroll(self) -> list[PcmFrame]:
        """Frames from just before the speech that has started, each handed out once."""
        frames = list(self._preroll)
        self._preroll.clear()
        return frames

    def keep_for_preroll(self, frame: PcmFrame) -> None:
        self._preroll.append(frame)
        while self._preroll[-1].end_ms - self._preroll[0].start_ms > PREROLL_MS:
            self._preroll.popleft()

    def _frames(self) -> Iterator[Heard]:
        while len(self._pending) >= self._frame_bytes:
            frame = PcmFrame(
                pcm=bytes(self._pending[: self._frame_bytes]),
                rate_hz=SPEECH_RATE_HZ,
                start_ms=self.heard_ms,
            )
            del self._pending[: self._frame_bytes]
            self._heard_samples += frame.samples
            self._newest += frame.pcm
            del self._newest[:-_WINDOW_BYTES]
            edge = self._segmenter.feed(self._voice.probability(frame), frame.duration_ms)
            yield Heard(
                frame=frame,
                edge=edge,
                is_speech=self._segmenter.is_speaking,
                is_paused=self._segmenter.is_paused,
            )
