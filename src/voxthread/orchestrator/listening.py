"""Understanding the caller: the open utterance's transcription and the end-of-turn model beside it."""

from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from voxthread.core.audio import SPEECH_RATE_HZ, PcmFrame
from voxthread.core.failures import VoiceError
from voxthread.core.inputs import EndOfTurnPredicted, Input, TranscriptionFailed, TranscriptUpdated
from voxthread.core.transcripts import Flush
from voxthread.observability.logs import get_logger
from voxthread.observability.metrics import AUDIO_DROPPED_SECONDS
from voxthread.orchestrator.ports import EndOfTurn, SpeechToText
from voxthread.orchestrator.streams import closing

log = get_logger(__name__)

_TURN_WINDOW_MS = 8_000
_TURN_WINDOW_BYTES = _TURN_WINDOW_MS * SPEECH_RATE_HZ // 1000 * 2
_QUEUE_FRAMES = 4_000  # two minutes of 32 ms frames: an utterance never waits for a slow model, it is bounded


class _Utterance:
    """The audio of one utterance on its way to the models."""

    def __init__(self, utterance_id: int, audio: MemoryObjectSendStream[PcmFrame | Flush]) -> None:
        self.id = utterance_id
        self.audio = audio
        self.window = bytearray()
        self.withheld: list[PcmFrame] = []
        self.transcription = anyio.CancelScope()
        self.prediction: anyio.CancelScope | None = None

    def show(self, frame: PcmFrame) -> None:
        """To the end-of-turn model, which hears the newest seconds."""
        self.window += frame.pcm
        del self.window[:-_TURN_WINDOW_BYTES]

    def end(self) -> None:
        self.audio.close()
        self.transcription.cancel()
        if self.prediction is not None:
            self.prediction.cancel()


class Listening:
    """Feeds the models of one session and puts what they find before the turn machine."""

    def __init__(
        self, stt: SpeechToText, end_of_turn: EndOfTurn, tasks: TaskGroup, tell: Callable[[Input], None]
    ) -> None:
        self._stt = stt
        self._end_of_turn = end_of_turn
        self._tasks = tasks
        self._tell = tell
        self._utterance: _Utterance | None = None

    def start(self, utterance_id: int) -> None:
        self.end()
        send, receive = anyio.create_memory_object_stream[PcmFrame | Flush](_QUEUE_FRAMES)
        self._utterance = _Utterance(utterance_id, send)
        self._tasks.start_soon(self._transcribe, self._utterance, receive)

    def feed(self, frame: PcmFrame) -> None:
        """Speech, after whatever was withheld before it."""
        if (utterance := self._utterance) is not None:
            utterance.show(frame)
            for each in (*utterance.withheld, frame):
                self._offer(utterance, each)
            utterance.withheld.clear()

    def withhold(self, frame: PcmFrame) -> None:
        """Silence that may be a pause, or the end: then the transcript of what came before it stands."""
        if self._utterance is not None:
            self._utterance.show(frame)
            self._utterance.withheld.append(frame)

    def feed_silence(self, frame: PcmFrame) -> None:
        """Silence behind the end: only the end-of-turn model wants to hear how long it is."""
        if self._utterance is not None:
            self._utterance.show(frame)
            self._utterance.withheld.clear()

    def finish(self, utterance_id: int) -> None:
        if self._utterance is not None and self._utterance.id == utterance_id:
            self._offer(self._utterance, Flush.FLUSH)

    def predict(self, utterance_id: int) -> None:
        """Ask once at a time: a verdict that takes longer than the silence grows is not asked for twice."""
        utterance = self._utterance
        if utterance is not None and utterance.id == utterance_id and utterance.prediction is None:
            utterance.prediction = anyio.CancelScope()
            self._tasks.start_soon(self._predict, utterance, utterance.prediction)

    def end(self, utterance_id: int | None = None) -> None:
        if self._utterance is not None and utterance_id in (None, self._utterance.id):
            self._utterance.end()
            self._utterance = None

    def _offer(self, utterance: _Utterance, item: PcmFrame | Flush) -> None:
        try:
            utterance.audio.send_nowait(item)
        except anyio.WouldBlock:
            AUDIO_DROPPED_SECONDS.labels(direction="in").inc(
                item.duration_ms / 1000 if isinstance(item, PcmFrame) else 0
            )
        except anyio.BrokenResourceError:
            pass  # the transcription has failed, which the machine has been told

    async def _transcribe(
        self, utterance: _Utterance, audio: MemoryObjectReceiveStream[PcmFrame | Flush]
    ) -> None:
        with utterance.transcription, audio:
            try:
                async with closing(self._stt.transcribe(audio)) as transcripts:
                    async for transcript in transcripts:
                        self._tell(
                            TranscriptUpdated(
                                utterance_id=utterance.id, text=transcript.text, final=transcript.final
                            )
                        )
            except VoiceError as error:
                log.warning("transcription.failed", code=error.code, detail=error.detail)
                self._tell(TranscriptionFailed(utterance_id=utterance.id, failure=error.failure))

    async def _predict(self, utterance: _Utterance, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                probability = await self._end_of_turn.probability(
                    PcmFrame(pcm=bytes(utterance.window), rate_hz=SPEECH_RATE_HZ)
                )
                self._tell(EndOfTurnPredicted(utterance_id=utterance.id, probability=probability))
            except VoiceError as error:
                # Silence alone then decides; the endpoint deadline is already set.
                log.warning("end_of_turn.failed", code=error.code, detail=error.detail)
            finally:
                utterance.prediction = None
