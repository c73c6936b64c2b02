"""A call of which only the models are faked: callers speak in tones, and each tone stands for its words."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import anyio
import numpy as np

from integration.fake_media import RATE_HZ
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.audio import PcmFrame
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.history import Message
from voxthread.core.speech import SpeechPolicy
from voxthread.core.transcripts import Flush, Transcript
from voxthread.core.turn_state import TurnPolicy
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.call_policy import CallPolicy
from voxthread.orchestrator.ports import Agent, Engines, SpeechToText
from voxthread.orchestrator.recovery import until_now
from voxthread.orchestrator.runner import DEFAULT_CALL, Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn
from voxthread.testing.speaking import ToneTextToSpeech
from voxthread.wire.audio import MalformedRecordError
from voxthread.wire.events import Envelope, decode_event, is_public
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.stamp import Fence

SESSION_ID = "session_1753590741399040_5cc15fe6"
RED_HZ, BLUE_HZ = 500, 800
QUESTIONS = {RED_HZ: "What is red", BLUE_HZ: "What is blue"}
WORD_S = 0.005
TURN = TurnPolicy(
    endpoint=EndpointPolicy(endpoint_ms=300, complete_ms=200, incomplete_ms=600), line_notice="I lost you."
)


async def tones_in(audio: AsyncIterable[PcmFrame | Flush], known_hz: Iterable[int]) -> AsyncIterator[int]:
    """At each flush, the known tone that is nearest to what was heard since the stream began."""
    heard = bytearray()
    async for item in audio:
        if isinstance(item, PcmFrame):
            heard += item.pcm
        else:
            samples = np.frombuffer(bytes(heard), "<i2").astype(np.float64)
            spectrum = np.abs(np.fft.rfft(samples))
            tone_hz = float(np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[spectrum.argmax()])
            yield min(known_hz, key=lambda hz: abs(hz - tone_hz))


class ToneSpeechToText:
    """Hears each tone as the words it stands for, so that the same audio is always the same words."""

    def __init__(self, words: Mapping[int, str] = QUESTIONS) -> None:
        self._words = words

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        async for tone_hz in tones_in(audio, self._words):
            yield Transcript(text=self._words[tone_hz], final=True, end_ms=0)


@dataclass(frozen=True)
class Repeater:
    """Answers in sentences that repeat the question, a word at a time, as fast as a model writes."""

    greeting: str = "Good day to you."
    answer: str = "You asked {question}. That was number {number}. Here is what I know of it."

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        for word in self.answer.format(question=utterance, number=len(history)).split(" "):
            await anyio.sleep(WORD_S)
            yield f"{word} "


def engines_of(
    agents: Mapping[str, Agent], stt: SpeechToText | None = None, ms_per_character: int = 20
) -> Engines:
    return Engines(
        stt=stt or ToneSpeechToText(),
        tts=ToneTextToSpeech(ms_per_character=ms_per_character),
        end_of_turn=ScriptedEndOfTurn(0.9),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents=agents,
    )


@asynccontextmanager
async def orchestrator(
    bus: MemoryBus,
    epoch: int,
    engines: Engines | None = None,
    *,
    turn: TurnPolicy = TURN,
    call: CallPolicy = DEFAULT_CALL,
    is_orphan: bool = True,
    now: Callable[[], int] = now_ms,
) -> AsyncIterator[None]:
    """The owner of the one partition, which dies as suddenly as a process does."""
    made = Orchestrator(
        bus,
        engines or engines_of({"repeater": Repeater()}),
        invalid_ids=InvalidIds(),
        turn=turn,
        speech=SpeechPolicy(),
        now=now,
        call=call,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        made.take(0, epoch, is_orphan=is_orphan)
        yield
        tasks.cancel_scope.cancel()


def _event_of(stored: StoredRecord, session_id: str | None) -> Envelope | None:
    if is_public(stored.record) and session_id in (None, stored.record.key):
        with suppress(MalformedRecordError):
            return decode_event(stored.record.value)
    return None


async def until(bus: Bus, kind: type[events.Event], count: int = 1, *, session_id: str | None = None) -> None:
    """Until the event was told so many times; of a log with several sessions, name the one."""
    fence, seen = Fence(), 0
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            envelope = _event_of(stored, session_id)
            if envelope is not None and fence.admits(envelope.epoch, envelope.seq):
                seen += isinstance(envelope.event, kind)
                if seen == count:
                    return


async def story(bus: Bus, *, session_id: str | None = None) -> list[Envelope]:
    """What was told until now, without what dead owners told too."""
    fence = Fence()
    told = [_event_of(stored, session_id) async for stored in until_now(bus, Stream.EVENTS, 0, 0)]
    return [each for each in told if each is not None and fence.admits(each.epoch, each.seq)]


@dataclass
class Call:
    """What the caller heard, and what the log tells of it."""

    played: dict[int, list[bytes]]
    told: list[Envelope]

    @property
    def user_texts(self) -> list[str]:
        """The last final text of each utterance."""
        texts = {
            envelope.event.utterance_id: envelope.event.text
            for envelope in self.told
            if isinstance(envelope.event, events.UserTranscript) and envelope.event.final
        }
        return list(texts.values())

    @property
    def agent_texts(self) -> list[str]:
        said: dict[int, str] = {}
        for envelope in self.told:
            if isinstance(envelope.event, events.AgentReplyDelta) and envelope.event.turn_id is not None:
                said[envelope.event.turn_id] = said.get(envelope.event.turn_id, "") + envelope.event.text
        return list(said.values())

    @property
    def heard_texts(self) -> list[str]:
        return [
            envelope.event.heard_text
            for envelope in self.told
            if isinstance(envelope.event, events.AgentSpeechStopped)
        ]
