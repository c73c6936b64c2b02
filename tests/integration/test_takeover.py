"""Kill the owner of a call at any moment: another goes on, and the caller hears the same call."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import anyio
import numpy as np
import pytest

from integration.fake_media import RATE_HZ, FakeMedia, tone_packets
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
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.runner import DEFAULT_CALL, Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn
from voxthread.testing.speaking import ToneTextToSpeech
from voxthread.wire import facts
from voxthread.wire.claims import SessionRelease, decode_claim
from voxthread.wire.events import Envelope, decode_event, is_public
from voxthread.wire.log import Stream
from voxthread.wire.stamp import Fence

pytestmark = pytest.mark.integration

SESSION_ID = "session_1753590741399040_5cc15fe6"
QUESTIONS = {500: "What is red", 800: "What is blue"}
TURN = TurnPolicy(
    endpoint=EndpointPolicy(endpoint_ms=300, complete_ms=200, incomplete_ms=600), line_notice="I lost you."
)


class ToneSpeechToText:
    """Hears each tone as the question it stands for, so that the same audio is always the same words."""

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        heard = bytearray()
        async for item in audio:
            if isinstance(item, PcmFrame):
                heard += item.pcm
            else:
                samples = np.frombuffer(bytes(heard), "<i2").astype(np.float64)
                spectrum = np.abs(np.fft.rfft(samples))
                tone_hz = float(np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[spectrum.argmax()])
                text = QUESTIONS[min(QUESTIONS, key=lambda hz: abs(hz - tone_hz))]
                yield Transcript(text=text, final=True, end_ms=0)


class Repeater:
    """Answers in three sentences, a word at a time."""

    greeting = "Good day to you."

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        reply = f"You asked {utterance}. That was number {len(history)}. Here is what I know of it."
        for word in reply.split(" "):
            await anyio.sleep(0.005)
            yield f"{word} "


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


@asynccontextmanager
async def orchestrator(bus: MemoryBus, epoch: int, call: CallPolicy = DEFAULT_CALL) -> AsyncIterator[None]:
    engines = Engines(
        stt=ToneSpeechToText(),
        tts=ToneTextToSpeech(ms_per_character=20),
        end_of_turn=ScriptedEndOfTurn(0.9),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={"repeater": Repeater()},
    )
    made = Orchestrator(
        bus,
        engines,
        invalid_ids=InvalidIds(),
        turn=TURN,
        speech=SpeechPolicy(),
        now=now_ms,
        call=call,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        made.take(0, epoch)
        yield
        tasks.cancel_scope.cancel()


async def hold_call(kill_at_ms: Sequence[int]) -> Call:
    """Two questions; the owner is killed at each of the instants, and succeeded at once."""
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(own_in_turn, bus, kill_at_ms)
        tasks.start_soon(media.run)
        await media.open("repeater")
        await until(bus, events.AgentSpeechStopped, 1)
        for number, tone_hz in enumerate(QUESTIONS, 2):
            media.speak(tone_packets(tone_hz, 600))
            await until(bus, events.AgentSpeechStopped, number)
        await media.send(facts.EndCommand(reason="hung_up"))
        await media.closed.wait()
        tasks.cancel_scope.cancel()
    return Call(media.played, await story(bus))


async def own_in_turn(bus: MemoryBus, kill_at_ms: Sequence[int]) -> None:
    began_ms = now_ms()
    for epoch, at_ms in enumerate([*kill_at_ms, None], 1):
        async with orchestrator(bus, epoch):
            if at_ms is None:
                await anyio.sleep_forever()
            else:
                await anyio.sleep(max(0, began_ms + at_ms - now_ms()) / 1000)


async def until(bus: MemoryBus, kind: type[events.Event], count: int) -> None:
    fence, seen = Fence(), 0
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            if is_public(stored.record):
                envelope = decode_event(stored.record.value)
                seen += fence.admits(envelope.epoch, envelope.seq) and isinstance(envelope.event, kind)
                if seen == count:
                    return


async def story(bus: MemoryBus) -> list[Envelope]:
    fence, told = Fence(), []
    head = await bus.head(Stream.EVENTS, 0)
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            if is_public(stored.record):
                envelope = decode_event(stored.record.value)
                if fence.admits(envelope.epoch, envelope.seq):
                    told.append(envelope)
            if stored.position == head - 1:
                break
    return told


def assert_same_audio(call: Call, undisturbed: Call) -> None:
    """As long to the packet; a clause whose audio was sent whole may lose the rest of its last packet."""
    assert call.played.keys() == undisturbed.played.keys()
    for turn_id, packets in undisturbed.played.items():
        assert len(packets) - len(call.played[turn_id]) in (0, 1, 2)


@pytest.mark.anyio
async def test_any_moment_owner_killed_caller_hears_the_same_call() -> None:
    """Kills spread over greeting, listening, speaking caller, thinking and speaking agent."""
    calls: dict[int, Call] = {}

    async def run(kill_at_ms: int | None) -> None:
        calls[kill_at_ms or 0] = await hold_call([] if kill_at_ms is None else [kill_at_ms])

    async with anyio.create_task_group() as tasks:
        for kill_at_ms in [None, *range(150, 6_000, 390)]:
            tasks.start_soon(run, kill_at_ms)
    undisturbed = calls.pop(0)
    assert undisturbed.user_texts == list(QUESTIONS.values())
    for kill_at_ms, call in calls.items():
        assert call.user_texts == undisturbed.user_texts, kill_at_ms
        assert call.agent_texts == undisturbed.agent_texts, kill_at_ms
        assert call.heard_texts == undisturbed.heard_texts, kill_at_ms
        assert_same_audio(call, undisturbed)
        assert [envelope.seq for envelope in call.told] == list(range(1, len(call.told) + 1)), kill_at_ms


@pytest.mark.anyio
async def test_owners_killed_again_and_again_the_call_is_the_same() -> None:
    undisturbed, disturbed = None, None

    async def run(kills: Sequence[int]) -> None:
        nonlocal undisturbed, disturbed
        call = await hold_call(kills)
        if kills:
            disturbed = call
        else:
            undisturbed = call

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run, [])
        tasks.start_soon(run, list(range(300, 9_000, 700)))
    assert undisturbed is not None
    assert disturbed is not None
    assert disturbed.user_texts == undisturbed.user_texts
    assert disturbed.agent_texts == undisturbed.agent_texts
    assert_same_audio(disturbed, undisturbed)


@pytest.mark.anyio
async def test_media_process_gone_for_long_its_session_is_ended_and_its_names_are_free() -> None:
    bus = MemoryBus(1)
    media = FakeMedia(bus, SESSION_ID, 0)
    async with orchestrator(bus, 1, call=CallPolicy(media_silence_ms=300)):
        await media.open("repeater")
        await until(bus, events.SessionClosed, 1)
        async with aclosing(bus.read(Stream.CLAIMS, 0, 0)) as records:
            release = decode_claim((await anext(records)).record.value)
    assert (await story(bus))[-1].event == events.SessionClosed(reason="media_lost")
    assert isinstance(release, SessionRelease)
    assert release.session_id == SESSION_ID
