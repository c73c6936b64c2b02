"""Work that kills whoever owns it is put aside after two deaths, its session after three; others go on."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
import numpy as np
import pytest

from integration.fake_media import RATE_HZ, FakeMedia, tone_packets
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.attempts import POISONED
from voxthread.core.audio import PcmFrame
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.history import Message
from voxthread.core.speech import SpeechPolicy
from voxthread.core.transcripts import Flush, Transcript
from voxthread.core.turn_state import TurnPolicy
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recovery import until_now
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn
from voxthread.testing.speaking import ToneTextToSpeech
from voxthread.wire import facts
from voxthread.wire.audio import MalformedRecordError, decode_audio
from voxthread.wire.claims import SessionRelease, decode_claim
from voxthread.wire.dead_letter import DeadLetter, read_dead_letter
from voxthread.wire.events import Envelope, decode_event, is_public
from voxthread.wire.log import Bus, StoredRecord, Stream
from voxthread.wire.snapshots import is_attempt
from voxthread.wire.stamp import Fence

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

GUILTY_ID = "session_1753590741399040_5cc15fe6"
INNOCENT_ID = "session_1753590741399041_5cc15fe7"
APOLOGY = "Sorry."
RED_HZ, BLUE_HZ, POISON_HZ = 500, 800, 1_200
WORDS = {RED_HZ: "What is red", BLUE_HZ: "What is blue", POISON_HZ: ""}
TURN = TurnPolicy(endpoint=EndpointPolicy(endpoint_ms=300, complete_ms=200, incomplete_ms=600), apology=APOLOGY)
PATIENCE_S = 30


@dataclass
class Owners:
    """Processes one after the other: `kill` ends the one that runs, the next takes everything over."""

    bus: MemoryBus
    deaths: int = 0
    hand_over: bool = False
    _died: anyio.Event = field(default_factory=anyio.Event)
    _counted: anyio.Event = field(default_factory=anyio.Event)

    def kill(self) -> None:
        self._died.set()

    async def run(self) -> None:
        while True:
            self._died = anyio.Event()
            async with self._owner(self.deaths + 1):
                await self._died.wait()
            self.deaths += 1
            self._counted.set()
            self._counted = anyio.Event()

    async def have_died(self, count: int) -> None:
        while self.deaths < count:
            await self._counted.wait()

    @asynccontextmanager
    async def _owner(self, epoch: int) -> AsyncIterator[None]:
        made = Orchestrator(
            self.bus,
            scripted(self.kill),
            invalid_ids=InvalidIds(),
            turn=TURN,
            speech=SpeechPolicy(),
            now=now_ms,
        )
        async with anyio.create_task_group() as tasks:
            await tasks.start(made.run)
            made.take(0, epoch, is_orphan=not self.hand_over)
            yield
            tasks.cancel_scope.cancel()


def scripted(kill: Callable[[], None] = lambda: None) -> Engines:
    return Engines(
        stt=KillingSpeechToText(kill),
        tts=ToneTextToSpeech(ms_per_character=20),
        end_of_turn=ScriptedEndOfTurn(0.9),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={"repeater": Repeater(), "killer": KillingAgent(kill)},
    )


class KillingSpeechToText:
    """Hears words in tones, and one tone is the end of whoever is to say what it was."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        heard = bytearray()
        async for item in audio:
            if isinstance(item, PcmFrame):
                heard += item.pcm
                continue
            samples = np.frombuffer(bytes(heard), "<i2").astype(np.float64)
            tone_hz = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[np.abs(np.fft.rfft(samples)).argmax()]
            nearest_hz = min(WORDS, key=lambda hz: abs(hz - tone_hz))
            if nearest_hz == POISON_HZ:
                self._kill()
                await anyio.sleep_forever()
            yield Transcript(text=WORDS[nearest_hz], final=True, end_ms=0)


class Repeater:
    greeting = ""

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        for word in f"You asked {utterance}. That I know.".split():
            await anyio.sleep(0.005)
            yield f"{word} "


class KillingAgent:
    """The end of whoever asks it anything."""

    greeting = ""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        self._kill()
        await anyio.sleep_forever()
        yield ""


@dataclass
class Scene:
    """A caller who brings death, and another who only calls at the same time."""

    bus: MemoryBus
    owners: Owners
    guilty: FakeMedia
    innocent: FakeMedia


@asynccontextmanager
async def scene(agent: str = "repeater") -> AsyncIterator[Scene]:
    bus = MemoryBus(1)
    made = Scene(bus, Owners(bus), FakeMedia(bus, GUILTY_ID, 0), FakeMedia(bus, INNOCENT_ID, 0))
    with anyio.fail_after(PATIENCE_S):
        async with anyio.create_task_group() as tasks:
            for task in (made.owners.run, made.guilty.run, made.innocent.run):
                tasks.start_soon(task)
            await made.guilty.open(agent)
            await made.innocent.open("repeater")
            yield made
            tasks.cancel_scope.cancel()


def event_of(session_id: str, stored: StoredRecord) -> Envelope | None:
    if stored.record.key == session_id and is_public(stored.record):
        with suppress(MalformedRecordError):
            return decode_event(stored.record.value)
    return None


async def until(bus: Bus, session_id: str, kind: type[events.Event], count: int = 1) -> None:
    fence, seen = Fence(), 0
    async with aclosing(bus.read(Stream.EVENTS, 0, 0)) as records:
        async for stored in records:
            envelope = event_of(session_id, stored)
            if envelope is not None:
                seen += fence.admits(envelope.epoch, envelope.seq) and isinstance(envelope.event, kind)
                if seen == count:
                    return


async def kept(bus: Bus, stream: Stream) -> list[StoredRecord]:
    return [stored async for stored in until_now(bus, stream, 0, 0)]


async def story(bus: Bus, session_id: str) -> list[Envelope]:
    fence, told = Fence(), []
    for stored in await kept(bus, Stream.EVENTS):
        envelope = event_of(session_id, stored)
        if envelope is not None and fence.admits(envelope.epoch, envelope.seq):
            told.append(envelope)
    assert [envelope.seq for envelope in told] == list(range(1, len(told) + 1))
    return told


async def heard_by(bus: Bus, session_id: str) -> list[str]:
    told = [envelope.event for envelope in await story(bus, session_id)]
    return [event.heard_text for event in told if isinstance(event, events.AgentSpeechStopped)]


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    read = [read_dead_letter(stored.record) for stored in await kept(bus, Stream.DLQ)]
    return [each for each in read if isinstance(each, DeadLetter)]


async def hang_up(media: FakeMedia) -> None:
    await media.send(facts.EndCommand(reason="hung_up"))
    await media.closed.wait()


async def test_utterance_that_kills_is_skipped_after_two_deaths_and_the_call_goes_on() -> None:
    async with scene() as at:
        at.guilty.speak(tone_packets(POISON_HZ, 400))
        await until(at.bus, GUILTY_ID, events.AgentSpeechStopped)
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, GUILTY_ID, events.AgentSpeechStopped, 2)
        await hang_up(at.guilty)
        assert at.owners.deaths == 2
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY, "You asked What is red. That I know."]
        told = [envelope.event for envelope in await story(at.bus, GUILTY_ID)]
        assert [e.code for e in told if isinstance(e, events.ErrorOccurred)] == [POISONED.code]
        (letter,) = await dead_letters(at.bus)
        assert (letter.error, letter.stream, letter.record.key) == ("poison.utterance", Stream.IN, GUILTY_ID)
        assert decode_audio(letter.record.value).duration_ms >= 400


async def test_caller_in_the_middle_of_a_word_when_another_kills_the_owners_is_understood() -> None:
    """Neither of the two gets on with anything between the deaths: each is tried alone."""
    async with scene() as at:
        at.guilty.speak(tone_packets(POISON_HZ, 400))
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, INNOCENT_ID, events.AgentSpeechStopped)
        await until(at.bus, GUILTY_ID, events.AgentSpeechStopped)
        assert at.owners.deaths <= 3
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY]
        assert await heard_by(at.bus, INNOCENT_ID) == ["You asked What is blue. That I know."]
        assert [letter.record.key for letter in await dead_letters(at.bus)] == [GUILTY_ID]


async def test_agent_that_always_kills_is_quarantined_at_the_third_death_and_others_go_on() -> None:
    async with scene(agent="killer") as at:
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, GUILTY_ID, events.AgentSpeechStopped)
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        at.guilty.speak(tone_packets(BLUE_HZ, 600))
        await at.guilty.closed.wait()
        await until(at.bus, INNOCENT_ID, events.AgentSpeechStopped)
        at.innocent.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, INNOCENT_ID, events.AgentSpeechStopped, 2)
        assert at.owners.deaths == 3
        assert (await story(at.bus, GUILTY_ID))[-1].event == events.SessionClosed(reason="quarantined")
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY]
        assert await heard_by(at.bus, INNOCENT_ID) == [
            "You asked What is blue. That I know.",
            "You asked What is red. That I know.",
        ]
        releases = [decode_claim(stored.record.value) for stored in await kept(at.bus, Stream.CLAIMS)]
        assert [r.session_id for r in releases if isinstance(r, SessionRelease)] == [GUILTY_ID]
        assert [letter.error for letter in await dead_letters(at.bus)] == ["poison.utterance", "poison.session"]
        states = {stored.record.key: stored.record.value for stored in await kept(at.bus, Stream.STATE)}
        assert [value for key, value in states.items() if key.endswith(GUILTY_ID)] == [b"", b""]


async def test_partition_handed_over_again_and_again_at_the_same_work_nothing_is_held_against_it() -> None:
    async with scene(agent="killer") as at:
        at.owners.hand_over = True
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await at.owners.have_died(5)
        assert await dead_letters(at.bus) == []
        assert not any(is_attempt(stored.record.key) for stored in await kept(at.bus, Stream.STATE))


async def test_idle_session_whose_owners_die_of_something_else_is_never_blamed() -> None:
    async with scene() as at:
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, INNOCENT_ID, events.AgentSpeechStopped)
        for deaths in range(1, 5):
            at.owners.kill()
            await until(at.bus, INNOCENT_ID, events.OrchestratorTakeover, deaths)
        at.innocent.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, INNOCENT_ID, events.AgentSpeechStopped, 2)
        assert await dead_letters(at.bus) == []
