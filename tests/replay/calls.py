"""Scripted calls with faked engines, and the recordings made of them.

`PYTHONPATH=tests .venv/bin/python tests/replay/calls.py` makes the recordings anew: only when the turn machine
is meant to behave differently. Two are not made here: `voxthread replay --export`
wrote `hotel_by_voice` of a call with the real models; in `quarantined` the agent killed every owner.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio

from faked_call import SESSION_ID, ToneSpeechToText, engines_of, orchestrator, until
from integration.fake_media import FakeMedia, tone_packets
from voxthread.agent import load_agent
from voxthread.app.engine_room import agent_files
from voxthread.bus.memory import MemoryBus
from voxthread.core import events
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.turn_state import TurnPolicy
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recording import read_session
from voxthread.orchestrator.recovery import until_now
from voxthread.testing.speaking import ScriptedLanguageModel
from voxthread.wire import facts
from voxthread.wire.log import Stream

RECORDINGS = Path(__file__).with_name("recordings")
SNAPSHOT = Path(__file__).with_name("snapshot_1.json")

BREAKFAST, PARKING, WAIT, MM_HM = 400, 700, 1_000, 1_600
"""Hertz of the tones that callers speak in."""

HALF_HEARD_S = 0.6
"""How long a reply plays before the caller speaks over it."""

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


def faked_engines() -> Engines:
    """The agent is the hotel, the models are not."""
    name, make = load_agent(agent_files(None)[0])
    agent = make(ScriptedLanguageModel(["You are welcome."]))
    return engines_of({name: agent}, ToneSpeechToText(WORDS), ms_per_character=15)


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
            async with orchestrator(self.bus, epoch, faked_engines(), turn=TURN):
                await self._killed.wait()
                self._killed = anyio.Event()

    def kill_owner(self) -> None:
        self._killed.set()

    def speak(self, tone_hz: int, duration_ms: int = 600) -> None:
        self.media.speak(tone_packets(tone_hz, duration_ms))

    async def ask_about_breakfast(self) -> None:
        """Until the answer begins."""
        self.speak(BREAKFAST)
        await self.next(events.AgentSpeechStarted)

    async def next(self, kind: type[events.Event]) -> None:
        """Until it has happened once more than it was waited for."""
        self._seen[kind] = self._seen.get(kind, 0) + 1
        await until(self.bus, kind, self._seen[kind])


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
    await call.ask_about_breakfast()
    call.speak(WAIT, 1_200)
    await call.next(events.AgentInterrupted)
    await call.next(events.AgentSpeechStopped)


async def backchannel(call: Call) -> None:
    await call.ask_about_breakfast()
    call.speak(MM_HM, 300)
    await call.next(events.AgentSpeechResumed)
    await call.next(events.AgentSpeechStopped)


async def takeover(call: Call) -> None:
    """In the middle of the agent's sentence, and of the caller's."""
    await call.ask_about_breakfast()
    call.kill_owner()
    await call.next(events.AgentSpeechStopped)
    call.speak(PARKING, 900)
    await call.next(events.UserSpeechStarted)
    await call.next(events.UserSpeechStarted)
    call.kill_owner()
    await call.next(events.AgentSpeechStopped)


async def resumed_line(call: Call) -> None:
    """The media process dies while the agent speaks."""
    await call.ask_about_breakfast()
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
        await call.ask_about_breakfast()
        await anyio.sleep(HALF_HEARD_S)
        call.speak(WAIT, 2_000)
        await call.next(events.AgentSpeechHeld)

    bus = await hold(speak_over)
    states = [stored.record async for stored in until_now(bus, Stream.STATE, 0, 0)]
    return next(state.value for state in states if b'"state":"overlap"' in state.value)


if __name__ == "__main__":
    anyio.run(record, Path(sys.argv[1]) if len(sys.argv) > 1 else RECORDINGS)
