"""A caller who asks one question, and what became of the call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio

from voxthread.chaos.outcome import Heard, History
from voxthread.chaos.pauses import LEAST_MS, Sound
from voxthread.client.call import Call, Patience, Reply
from voxthread.client.dial import open_call
from voxthread.client.failures import CallError
from voxthread.client.levels import SoundLog
from voxthread.client.mouth import Spoken
from voxthread.client.sessions import SessionsClient
from voxthread.client.utterance import Utterance
from voxthread.core import events
from voxthread.wire.events import Envelope

STUCK_MS: Final = 10_000
"""A session that has not ended so long after it was hung up is stuck."""

_LOOK_S: Final = 0.1
PATIENCE: Final = Patience(reply_ms=60_000, greeting_ms=15_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    agent: str
    text: str
    utterance: Utterance


@dataclass(slots=True)
class Witness:
    """What is known of a call while it goes on, and left when it fails."""

    session_id: str | None = None
    call: Call | None = None
    spoken: Spoken | None = None
    reply: Reply | None = None
    takeovers_ms: list[int] = field(default_factory=list)

    def take(self, envelope: Envelope) -> None:
        self.session_id = envelope.session_id
        if isinstance(envelope.event, events.OrchestratorTakeover):
            self.takeovers_ms.append(envelope.event.gap_ms)


async def ask(
    url: str, question: Question, witness: Witness, on_asking: Callable[[Call, Spoken], None] = lambda *_: None
) -> Heard:
    """Call, ask, hear the answer out, hang up, and see the session end. `on_asking` is called as the first
    sound leaves. Raises `CallError`."""
    async with open_call(url, agent=question.agent, patience=PATIENCE, on_event=witness.take) as call:
        witness.session_id, witness.call = call.session_id, call
        await call.greeting()
        witness.spoken = spoken = call.start_saying(question.utterance)
        on_asking(call, spoken)
        witness.reply = reply = await call.reply(spoken)
    history, is_stuck = await _ended(url, call.session_id)
    return Heard(
        session_id=call.session_id,
        user_text=call.story.user_transcript,
        agent_text=" ".join(turn.agent_text.strip() for turn in reply.turns),
        heard_text=" ".join(turn.heard_text.strip() for turn in reply.turns if turn.heard_text),
        v2v_ms=reply.v2v_ms,
        sounds=tuple(sounds_after(call.ears.sounds, spoken.last_sound_us or 0)),
        history=history,
        is_stuck=is_stuck,
        takeovers_ms=tuple(witness.takeovers_ms),
        errors=tuple(error.code for error in call.story.errors),
        reconnects=len(call.reconnects),
    )


def sounds_after(sounds: SoundLog, instant_us: int) -> list[Sound]:
    """The runs of sound since an instant, in milliseconds since the first of them."""
    found: list[Sound] = []
    origin_us = first_us = sounds.first_after(instant_us)
    while first_us is not None and origin_us is not None:
        last_us = sounds.silent_from(first_us, quiet_ms=LEAST_MS)
        assert last_us is not None, "there is a sound that begins there"
        found.append(Sound((first_us - origin_us) / 1000, (last_us - origin_us) / 1000))
        first_us = sounds.first_after(last_us + 1)
    return found


async def _ended(url: str, session_id: str) -> tuple[History, bool]:
    """The session's history, and whether it has not ended in time."""
    story: dict[str, Any] | None = None
    with anyio.move_on_after(STUCK_MS / 1000):
        async with SessionsClient(url) as sessions:
            while story is None or story["ended_at"] is None:
                try:
                    story = await sessions.show(session_id)
                except CallError:  # who would tell may be the one that was struck
                    await anyio.sleep(_LOOK_S)
                else:
                    await anyio.sleep(0 if story["ended_at"] else _LOOK_S)
    if story is None:
        return (), True
    return history_of(story["turns"]), story["ended_at"] is None


def history_of(turns: Sequence[dict[str, Any]]) -> History:
    return tuple((turn["user_text"] or "", turn["heard_text"] or "") for turn in turns)
