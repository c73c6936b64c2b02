"""Scripted calls with faked engines, and the recordings made of them.

`PYTHONPATH=tests .venv/bin/python tests/replay/calls.py` makes the recordings anew: only when the turn machine
is meant to behave differently. Two are not made here: `voxthread replay --export`
wrote `hotel_by_voice` of a call with the real models; in `quarantined` the agent killed every owner.
"""

import sys
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np

from integration.fake_media import RATE_HZ, FakeMedia, tone_packets
from integration.test_takeover import until
from voxthread.agent import load_agent
from voxthread.app.engine_room import agent_files
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.audio import PcmFrame
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.speech import SpeechPolicy
from voxthread.core.transcripts import Flush, Transcript
from voxthread.core.turn_state import TurnPolicy
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.observability.clock import now_ms
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recording import read_session
from voxthread.orchestrator.recovery import until_now
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn
from voxthread.testing.speaking import ScriptedLanguageModel, ToneTextToSpeech
from voxthread.wire import facts
from voxthread.wire.log import Stream

SESSION_ID = "session_1753590741399040_5cc15fe6"
RECORDINGS = Path(__file__).with_name("recordings")
SNAPSHOT = Path(__file__).with_name("snapshot_1.json")

BREAKFAST, PARKING, WAIT, MM_HM = 400, 700, 1_000, 1_600
"""Hertz of the tones that callers speak in."""

WORDS = {
    BREAKFAST: "What time is breakfast?",
    PARKING: "Is there parking?",
    WAIT: "Wait, is there parking?",
    MM_HM: "mm-hm",
}
TURN = TurnPolicy(
    endpoint=EndpointPolicy(endpoint_ms=300, complete_ms=200, incomplete_ms=600),
    backchannels=frozenset({"mm-hm"}),
    apology="Sorry.",
)


class Tones:
    """Hears each tone as the words it stands for, so that the same audio is always the same words."""

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        heard = bytearray()
        async for item in audio:
            if isinstance(item, PcmFrame):
                heard += item.pcm
            else:
                samples = np.frombuffer(bytes(heard), "<i2").astype(np.float64)
                spectrum = np.abs(np.fft.rfft(samples))
                tone_hz = float(np.fft.rfftfreq(len(samples), 1 / RATE_HZ)[spectrum.argmax()])
                yield Transcript(text=WORDS[min(WORDS, key=lambda hz: abs(hz - tone_hz))], final=True, end_ms=0)


def faked_engines() -> Engines:
    """The agent is the hotel, the models are not."""
    name, make = load_agent(agent_files(None)[0])
    return Engines(
        stt=Tones(),
        tts=ToneTextToSpeech(ms_per_character=15),
        end_of_turn=ScriptedEndOfTurn(0.9),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={name: make(ScriptedLanguageModel(["You are welcome."]))},
    )


class Call:
    """A caller, a media process, and one owner after the other."""

    def __init__(self, bus: MemoryBus) -> None:
        self.bus = bus
        self.media = FakeMedia(bus, SESSION_ID, 0)
        self._seen: dict[type[events.Event], int] = {}
        self._killed = anyio.Event()

    async def own(self) -> None:
        epoch = 0
        while True:
            epoch += 1
            async with owner(self.bus, epoch):
                await self._killed.wait()
                self._killed = anyio.Event()

    def kill_owner(self) -> None:
        self._killed.set()

    def speak(self, tone_hz: int, duration_ms: int = 600) -> None:
        self.media.speak(tone_packets(tone_hz, duration_ms))

    async def next(self, kind: type[events.Event]) -> None:
        """Until it has happened once more than it was waited for."""
        self._seen[kind] = self._seen.get(kind, 0) + 1
        await until(self.bus, kind, self._seen[kind])


@asynccontextmanager
async def owner(bus: MemoryBus, epoch: int) -> AsyncIterator[None]:
    made = Orchestrator(
        bus, faked_engines(), invalid_ids=InvalidIds(), turn=TURN, speech=SpeechPolicy(), now=now_ms
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(made.run)
        made.take(0, epoch)
        yield
        tasks.cancel_scope.cancel()


async def hold(script: Callable[[Call], Awaitable[None]], bus: MemoryBus | None = None) -> MemoryBus:
    """The call, from the greeting to the hanging up; what is left of it is the log."""
    call = Call(bus or MemoryBus(1))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(call.own)
        tasks.start_soon(call.media.run)
        await call.media.open("hotel")
        await call.next(events.AgentSpeechStarted)
        await call.next(events.AgentSpeechStopped)
        await script(call)
        await call.media.send(facts.EndCommand(reason="hung_up"))
        await call.media.closed.wait()
        await until(call.bus, events.SessionClosed, 1)
        tasks.cancel_scope.cancel()
    return call.bus


async def hotel(call: Call) -> None:
    for question in (BREAKFAST, PARKING):
        call.speak(question)
        await call.next(events.AgentSpeechStopped)


async def barge_in(call: Call) -> None:
    call.speak(BREAKFAST)
    await call.next(events.AgentSpeechStarted)
    call.speak(WAIT, 1_200)
    await call.next(events.AgentInterrupted)
    await call.next(events.AgentSpeechStopped)


async def backchannel(call: Call) -> None:
    call.speak(BREAKFAST)
    await call.next(events.AgentSpeechStarted)
    call.speak(MM_HM, 300)
    await call.next(events.AgentSpeechResumed)
    await call.next(events.AgentSpeechStopped)


async def takeover(call: Call) -> None:
    """In the middle of the agent's sentence, and of the caller's."""
    call.speak(BREAKFAST)
    await call.next(events.AgentSpeechStarted)
    call.kill_owner()
    await call.next(events.AgentSpeechStopped)
    call.speak(PARKING, 900)
    await call.next(events.UserSpeechStarted)
    await call.next(events.UserSpeechStarted)
    call.kill_owner()
    await call.next(events.AgentSpeechStopped)


async def resumed_line(call: Call) -> None:
    """The media process dies while the agent speaks."""
    call.speak(BREAKFAST)
    await call.next(events.AgentSpeechStarted)
    call.media.die()
    await call.media.resume()
    await call.next(events.SessionResumed)
    await call.next(events.AgentSpeechStopped)


CALLS = {script.__name__: script for script in (hotel, barge_in, backchannel, takeover, resumed_line)}


async def record(directory: Path) -> None:
    async def one(name: str) -> None:
        session = await read_session(await hold(CALLS[name]), SESSION_ID)
        lines = b"".join(value + b"\n" for value in session.recording.values)
        await anyio.Path(directory / f"{name}.jsonl").write_bytes(lines)

    async with anyio.create_task_group() as tasks:
        for name in CALLS:
            tasks.start_soon(one, name)
        await anyio.Path(SNAPSHOT).write_bytes(await snapshot_in_overlap())


async def snapshot_in_overlap() -> bytes:
    """The state of a call while the caller speaks over a reply half heard, as it is on the log."""

    async def speak_over(call: Call) -> None:
        call.speak(BREAKFAST)
        await call.next(events.AgentSpeechStarted)
        await anyio.sleep(0.6)
        call.speak(WAIT, 2_000)
        await call.next(events.AgentSpeechHeld)

    bus = await hold(speak_over)
    states = [stored.record async for stored in until_now(bus, Stream.STATE, 0, 0)]
    return next(state.value for state in states if b'"state":"overlap"' in state.value)


if __name__ == "__main__":
    anyio.run(record, Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDINGS)
