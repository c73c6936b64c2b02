"""`voxthread replay`: tell a recorded session to the turn machine again, and to today's models."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import msgspec

from voxthread.app.rerun import rerun
from voxthread.app.shared_bus import open_standing_bus
from voxthread.config import Config
from voxthread.core.effects import Effect, Publish
from voxthread.core.events import Event
from voxthread.core.failures import SessionError
from voxthread.core.replay import Difference, Step, effects_digest, replay
from voxthread.orchestrator.recording import RecordedSession, read_arrivals, read_session
from voxthread.wire.audio import MalformedRecordError


async def replay_session(
    config: Config,
    session_id: str,
    *,
    export: Path | None = None,
    with_models: bool = False,
    agent_file: Path | None = None,
) -> dict[str, Any]:
    """What `voxthread replay --json` prints. `export` is written the inputs, one record a line.

    Raises `SessionError` `session_unknown`, `session_not_replayable`, `session_audio_expired`, `agent_unknown`;
    `BusError`; `ModelFileError`.
    """
    async with open_standing_bus(config) as bus:
        session = await read_session(bus, session_id)
        arrivals = await read_arrivals(bus, session) if with_models else []
    steps = _steps(session)
    difference = replay(steps)
    result = {
        "session_id": session_id,
        "inputs": len(steps),
        "effects_equal": difference is None,
        "first_difference": difference and _difference_json(difference, session, steps),
    }
    if export is not None:
        await anyio.Path(export).write_bytes(b"".join(value + b"\n" for value in session.recording.values))
    if with_models:
        result["rerun"] = await rerun(config, session, arrivals, agent_file)
    return result


def _steps(session: RecordedSession) -> list[Step]:
    try:
        return session.recording.steps()
    except MalformedRecordError as error:
        raise SessionError(
            "session_not_replayable", f"{error}; its beginning has expired, or an older version recorded it"
        ) from None


def _difference_json(difference: Difference, session: RecordedSession, steps: Sequence[Step]) -> dict[str, Any]:
    """Of the effects there were, only the events are on the log in full."""
    step, got = difference.step, difference.effects
    until = min((each.position for each in steps if each.position > step.position), default=None)
    published = [
        envelope.event
        for position, envelope in session.events
        if position > step.position and (until is None or position < until)
    ]
    return {
        "position": step.position,
        "input": {
            "type": "deadline" if step.told is None else type(step.told).__name__,
            "now": step.now,
            "data": {} if step.told is None else msgspec.to_builtins(step.told, order="deterministic"),
        },
        "expected": {
            "effects_digest": step.effects_digest,
            "events": [_event_json(event) for event in published],
        },
        "got": {"effects_digest": effects_digest(got), "effects": [_effect_json(effect) for effect in got]},
    }


def _effect_json(effect: Effect) -> dict[str, Any]:
    if isinstance(effect, Publish):
        return {"type": "Publish", "event": _event_json(effect.event)}
    return {"type": type(effect).__name__, **msgspec.to_builtins(effect)}


def _event_json(event: Event) -> dict[str, Any]:
    return {"type": event.TYPE, **msgspec.to_builtins(event)}
