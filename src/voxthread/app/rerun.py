"""A recorded call held again: the same caller, today's models, on a log of its own, in real time.

recorded audio and commands --> voxthread.in  --> orchestrator --> engines
a playout nobody hears      <-- voxthread.out <--
"""

from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

from voxthread.app.engine_room import open_engines
from voxthread.app.orchestrator_role import open_orchestrator
from voxthread.app.recorded_caller import RecordedCaller, script_of
from voxthread.bus.memory import MemoryBus
from voxthread.config import Config
from voxthread.core.failures import SessionError
from voxthread.core.inputs import Input, SpeechStarted, SpeechStopped
from voxthread.core.story import SessionStory
from voxthread.orchestrator.inbox import Arrived
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.recording import RecordedSession, read_session
from voxthread.wire.facts import SessionOpened

_WORKER_ID = "rerun"
_NO_TURN: dict[str, str | None] = {"user_text": None, "agent_text": None}


async def rerun(
    config: Config, session: RecordedSession, arrivals: Sequence[Arrived], agent_file: Path | None
) -> dict[str, Any]:
    """Takes as long as the call did. Raises `SessionError` `session_audio_expired`, `agent_unknown`."""
    opened = arrivals[0].content if arrivals else None
    if not isinstance(opened, SessionOpened):
        raise SessionError(
            "session_audio_expired", "the log keeps what callers say for minutes, and this call is older"
        )
    async with open_engines(config, agent_file) as engines:
        if opened.agent not in engines.agents:
            raise SessionError(
                "agent_unknown", f"the call was with {opened.agent!r}: give its file with --agent"
            )
        again = await hold_again(config, engines, session, arrivals)
    return compared(session, again)


async def hold_again(
    config: Config, engines: Engines, session: RecordedSession, arrivals: Sequence[Arrived]
) -> RecordedSession:
    """The call as it goes with these engines."""
    onsets = _positions(session, SpeechStarted)
    script = script_of(arrivals, onsets, _positions(session, SpeechStopped))
    bus = MemoryBus(1)
    caller = RecordedCaller(bus, session.session_id, script, engines.open_encoder())
    async with open_orchestrator(config, bus, engines, _WORKER_ID):
        await caller.run()
    return await read_session(bus, session.session_id)


def _positions(session: RecordedSession, kind: type[Input]) -> set[int]:
    return {record.in_position for record, told in session.recording.inputs if isinstance(told, kind)}


def compared(session: RecordedSession, again: RecordedSession) -> dict[str, Any]:
    """Turn by turn; one that nobody heard does not count."""
    pairs = list(zip_longest(_turns(session), _turns(again), fillvalue=_NO_TURN))
    return {
        "transcripts_equal": all(was["user_text"] == now["user_text"] for was, now in pairs),
        "replies_equal": all(was["agent_text"] == now["agent_text"] for was, now in pairs),
        "differences": [
            {"turn": number, "recorded": was, "rerun": now}
            for number, (was, now) in enumerate(pairs, 1)
            if was != now
        ],
    }


def _turns(session: RecordedSession) -> list[dict[str, str | None]]:
    story = SessionStory(session.session_id)
    for _, envelope in session.events:
        story.add(envelope.event, envelope.at_ms, frontend_session_id=envelope.frontend_session_id)
    return [
        {"user_text": turn.user_text, "agent_text": turn.agent_text}
        for turn in story.turns
        if turn.heard_text is not None
    ]
