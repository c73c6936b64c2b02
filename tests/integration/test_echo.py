"""A session that hears itself: the agent's voice comes back through the caller's microphone, in audio time."""

import anyio
import pytest
from tests.spoken import SkipLoudly, need_espeak, say

from voxthread.bus.memory import MemoryBus
from voxthread.core.events import AgentInterrupted, UserTranscript
from voxthread.core.sentences import ClauseSplitter
from voxthread.core.speech import SpeechPolicy
from voxthread.core.turn_state import TurnPolicy
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn, ScriptedSpeechToText
from voxthread.turn_bench import sounds
from voxthread.turn_bench.agent import FixedAgent, RecordedVoice
from voxthread.turn_bench.call import LISTENING_AGENT, PARTITION, TALKING_AGENT, Call, Heard
from voxthread.turn_bench.scenes import Echo, Kind, Line, Scene
from voxthread.turn_bench.virtual_time import IN_AUDIO_TIME, now_ms
from voxthread.turn_bench.voices import HELD_OUT

pytestmark = pytest.mark.integration

SESSION_ID = "session_1753590741399040_5cc15fe6"
GREETING = (
    "Welcome to the hotel, let me tell you about the rooms we have before you ask me for anything at all."
)


def scene(echo: Echo, *pieces: str) -> Scene:
    line = Line(
        name="echo",
        kind=Kind.ECHO,
        voice=HELD_OUT[0],
        is_held_out=False,
        pieces=pieces,
        over_agent_ms=1_500,
        echo=echo,
    )
    speech = sounds.trimmed(say(" ".join(pieces), "en-us+f3")) if pieces else sounds.silence(0)
    return Scene(line=line, speech=speech, background=sounds.silence(1_000))


def clauses() -> list[str]:
    splitter = ClauseSplitter()
    return splitter.feed(GREETING) + splitter.finish()


async def held(scene: Scene) -> Heard:
    bus = MemoryBus(partitions=1)
    engines = Engines(
        stt=ScriptedSpeechToText("No, wait a minute.", "", ""),
        tts=RecordedVoice({clause: say(clause) for clause in clauses()}),
        end_of_turn=ScriptedEndOfTurn(0.95),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={
            LISTENING_AGENT: FixedAgent(line=""),
            TALKING_AGENT: FixedAgent(line="I see.", greeting=GREETING),
        },
    )
    orchestrator = Orchestrator(
        bus,
        engines,
        invalid_ids=InvalidIds(now_ms=now_ms),
        turn=TurnPolicy(),
        speech=SpeechPolicy(),
        now=now_ms,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(orchestrator.run)
        orchestrator.take(PARTITION, 1)
        heard = await Call(bus, SESSION_ID, scene).run()
        tasks.cancel_scope.cancel()
    return heard


def call(scene: Scene) -> Heard:
    return anyio.run(held, scene, backend_options=dict(IN_AUDIO_TIME))


@pytest.mark.parametrize("level_db", [-10, -20])
def test_agent_hears_itself_nothing_is_interrupted_or_taken_for_the_callers_words(
    level_db: int, skip_loudly: SkipLoudly
) -> None:
    need_espeak(skip_loudly)
    heard = call(scene(Echo(level_db=level_db, delay_ms=140)))
    assert len(heard.sounding_ms) * 20 > 4_000
    assert not [event for _, event in heard.events if isinstance(event, AgentInterrupted | UserTranscript)]


def test_agent_hears_itself_the_caller_interrupts_all_the_same(skip_loudly: SkipLoudly) -> None:
    need_espeak(skip_loudly)
    heard = call(scene(Echo(level_db=-10, delay_ms=140), "No, wait a minute, please."))
    events = [event for _, event in heard.events]
    assert any(isinstance(event, AgentInterrupted) for event in events)
    assert any(isinstance(event, UserTranscript) and "wait" in event.text for event in events)
