"""Two calls at one owner, of which one kills it: at a tone that nobody survives hearing, by its agent, or at
a packet that nobody survives decoding."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

import anyio

from faked_call import QUESTIONS, Repeater, engines_of, orchestrator, story, tones_in
from integration.fake_media import FakeMedia
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.audio import PcmFrame
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.history import Message
from voxthread.core.transcripts import Flush, Transcript
from voxthread.core.turn_state import TurnPolicy
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recovery import until_now
from voxthread.wire.dead_letter import DeadLetter, read_dead_letter
from voxthread.wire.events import Envelope
from voxthread.wire.log import Bus, StoredRecord, Stream

GUILTY_ID = "session_1753590741399040_5cc15fe6"
INNOCENT_ID = "session_1753590741399041_5cc15fe7"
APOLOGY = "Sorry."
POISON_HZ = 1_200
POISON_PACKET = b"\xffpoison"
TURN = TurnPolicy(endpoint=EndpointPolicy(endpoint_ms=300, complete_ms=200, incomplete_ms=600), apology=APOLOGY)
PATIENCE_S = 30


class Killed(BaseException):
    """The process is gone in the middle of a call into native code."""


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
            with suppress_killed():
                async with self._owner(self.deaths + 1):
                    await self._died.wait()
            self.deaths += 1
            self._counted.set()
            self._counted = anyio.Event()

    async def have_died(self, count: int) -> None:
        while self.deaths < count:
            await self._counted.wait()

    def _owner(self, epoch: int) -> AbstractAsyncContextManager[None]:
        return orchestrator(
            self.bus, epoch, killing_engines(self.kill), turn=TURN, is_orphan=not self.hand_over
        )


@contextmanager
def suppress_killed() -> Iterator[None]:
    try:
        yield
    except* Killed:
        pass


def killing_engines(kill: Callable[[], None] = lambda: None) -> Engines:
    repeater = Repeater(greeting="", answer="You asked {question}. That I know.")
    engines = engines_of({"repeater": repeater, "killer": KillingAgent(kill)}, KillingSpeechToText(kill))
    return replace(engines, open_decoder=KillingDecoder)


class KillingDecoder(OpusDecoder):
    def decode(self, packet: bytes) -> bytes:
        if packet == POISON_PACKET:
            raise Killed
        return super().decode(packet)


class KillingSpeechToText:
    """Hears words in tones, and one tone is the end of whoever is to say what it was."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        async for tone_hz in tones_in(audio, [*QUESTIONS, POISON_HZ]):
            if tone_hz == POISON_HZ:
                self._kill()
                await anyio.sleep_forever()
            yield Transcript(text=QUESTIONS[tone_hz], final=True, end_ms=0)


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


async def kept(bus: Bus, stream: Stream) -> list[StoredRecord]:
    return [stored async for stored in until_now(bus, stream, 0, 0)]


async def unbroken_story(bus: Bus, session_id: str) -> list[Envelope]:
    told = await story(bus, session_id=session_id)
    assert [envelope.seq for envelope in told] == list(range(1, len(told) + 1))
    return told


async def heard_by(bus: Bus, session_id: str) -> list[str]:
    told = [envelope.event for envelope in await unbroken_story(bus, session_id)]
    return [event.heard_text for event in told if isinstance(event, events.AgentSpeechStopped)]


async def dead_letters(bus: Bus) -> list[DeadLetter]:
    read = [read_dead_letter(stored.record) for stored in await kept(bus, Stream.DLQ)]
    return [each for each in read if isinstance(each, DeadLetter)]
