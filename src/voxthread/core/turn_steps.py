"""What transitions of the turn machine are made of: the state they change and the steps they share."""

from copy import deepcopy

from voxthread.core import events
from voxthread.core.effects import (
    CancelReply,
    Effect,
    EndTranscription,
    FlushPlayout,
    Publish,
    StartTranscription,
    WithdrawReply,
)
from voxthread.core.failures import Failure
from voxthread.core.history import History
from voxthread.core.timing import TurnClock
from voxthread.core.turn_state import Deadline, Reply, State, TurnPolicy, TurnSnapshot, Utterance

_NEED_A_LISTENER = frozenset({Deadline.FIRST_AUDIO, Deadline.STALL})
"""What nobody is there to hear is not late."""


class TurnSteps:
    """Holds at most one open utterance, one live reply and one speculative one."""

    def __init__(self, policy: TurnPolicy, snapshot: TurnSnapshot | None = None) -> None:
        """A new conversation, or that of `snapshot` (`turn_resume` says what to do then)."""
        start = deepcopy(snapshot) if snapshot is not None else TurnSnapshot(at_ms=0)
        self._policy = policy
        self._at_ms = start.at_ms
        self._state = start.state
        self._history = History(start.history)
        self._utterance = start.utterance
        self._reply = start.reply
        self._speculation = start.guess
        self._deadlines = start.deadlines
        self._utterance_count = start.utterance_count
        self._turn_count = start.turn_count
        self._line_lost_ms = start.line_lost_ms
        self._is_notice_due = start.is_notice_due
        self._idle_prompts = start.idle_prompts
        self._effects: list[Effect] = []
        self.stale_inputs = 0

    def snapshot(self) -> TurnSnapshot:
        return deepcopy(
            TurnSnapshot(
                at_ms=self._at_ms,
                state=self._state,
                history=self._history.messages,
                utterance=self._utterance,
                reply=self._reply,
                deadlines=self._deadlines,
                utterance_count=self._utterance_count,
                turn_count=self._turn_count,
                line_lost_ms=self._line_lost_ms,
                is_notice_due=self._is_notice_due,
                idle_prompts=self._idle_prompts,
                guess=self._speculation,
            )
        )

    @property
    def is_line_lost(self) -> bool:
        return self._line_lost_ms is not None

    def _withdraw_speculation(self) -> None:
        if self._speculation is not None:
            self._do(WithdrawReply(turn_id=self._speculation.turn_id))
            self._speculation = None

    def _new_reply(self, utterance: Utterance) -> Reply:
        self._turn_count += 1
        return Reply(
            self._turn_count, TurnClock(self._turn_count, utterance.ended_ms), utterance=utterance.text
        )

    def _think(self, reply: Reply, now: int) -> None:
        self._reply = reply
        self._enter(State.THINKING, {Deadline.FIRST_AUDIO: now + self._policy.first_audio_ms})

    def _interrupt_reply(self) -> None:
        reply = self._live_reply()
        heard = self._stop_reply()
        self._is_notice_due = False
        self._publish(events.AgentInterrupted(turn_id=reply.turn_id, heard_text=heard))

    def _stop_reply(self) -> str:
        """Cancel and flush the live reply; what was heard of it stays in the history and is returned."""
        reply = self._live_reply()
        self._do(CancelReply(turn_id=reply.turn_id))
        self._do(FlushPlayout(turn_id=reply.turn_id))
        self._reply = None
        return self._heard_by_caller(reply)

    def _heard_by_caller(self, reply: Reply) -> str:
        heard = reply.ledger.heard_text(reply.played_ms)
        self._history.agent_was_heard(heard)
        return heard

    def _end_reply(self, reply: Reply) -> None:
        heard = self._heard_by_caller(reply)
        self._publish(
            events.AgentSpeechStopped(turn_id=reply.turn_id, heard_text=heard, played_ms=reply.played_ms)
        )
        self._reply = None

    def _open_utterance(self, now: int) -> None:
        self._utterance_count += 1
        self._utterance = Utterance(self._utterance_count)
        self._do(StartTranscription(utterance_id=self._utterance.id))
        self._publish(events.UserSpeechStarted(utterance_id=self._utterance.id))

    def _enter(self, state: State, deadlines: dict[Deadline, int]) -> None:
        self._state = state
        self._deadlines = deadlines
        if self._line_lost_ms is not None and deadlines.keys() & _NEED_A_LISTENER:
            self._deadlines = {Deadline.LINE: self._at_ms + self._policy.line_ms}
        elif state is State.LISTENING:
            self._deadlines = self._idle_deadline()

    def _idle_deadline(self) -> dict[Deadline, int]:
        policy = self._policy
        asks = bool(policy.idle_ms) and self._idle_prompts < policy.max_idle_prompts
        return {Deadline.IDLE: self._at_ms + policy.idle_ms} if asks and not self.is_line_lost else {}

    def _do(self, effect: Effect) -> None:
        self._effects.append(effect)

    def _publish(self, event: events.Event) -> None:
        self._effects.append(Publish(event=event))

    def _publish_failure(self, failure: Failure, turn_id: int | None) -> None:
        self._publish(
            events.ErrorOccurred(
                turn_id=turn_id,
                code=failure.code,
                stage=failure.stage,
                retryable=failure.retryable,
                message=failure.detail,
            )
        )

    def _mark(self, reply: Reply, stage: str, now: int) -> None:
        timing = reply.clock.mark(stage, now)
        if timing is not None and reply is not self._speculation:
            self._publish(timing)

    def _end_utterance(self) -> None:
        if self._utterance is not None:
            self._do(EndTranscription(utterance_id=self._utterance.id))
            self._utterance = None

    def _postpone_stall(self, now: int) -> None:
        if self._deadlines.keys() & {Deadline.STALL, Deadline.LINE} and self._state is not State.THINKING:
            self._enter(self._state, {Deadline.STALL: now + self._policy.stall_ms})

    def _live_utterance(self) -> Utterance:
        assert self._utterance is not None, f"no utterance in {self._state}"
        return self._utterance

    def _live_reply(self) -> Reply:
        assert self._reply is not None, f"no reply in {self._state}"
        return self._reply

    def _reply_of(self, turn_id: int) -> Reply:
        reply = self._speculation if self._reply is None or self._reply.turn_id != turn_id else self._reply
        assert reply is not None, f"no reply {turn_id} in {self._state}"
        return reply
