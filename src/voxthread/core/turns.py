"""Whose turn it is: the one table that decides when the agent listens, thinks, speaks and yields.

                     SpeechStarted              SpeechStopped
        LISTENING ------------------> USER_SPEAKING --------> ENDPOINTING
            ^                             ^   ^                 |     |
            | drained         interrupted |   | goes on         |     | endpoint and transcript
            |                             |   +-----------------+     v
         SPEAKING <---- backchannel --- OVERLAP                    THINKING
            |  ------- SpeechStarted ---> ^                           |
            +<------------------- first audio heard -----------------+

Pure: `handle(input, now)` and `handle_deadline(now)` return effects; `deadline()` says when to come back.
The same inputs at the same instants give the same effects, which is what replay and takeover rest on.
Where it departs from the obvious: an utterance stays open until its answer is *heard*, so a caller who
goes on speaking while the agent thinks continues the same utterance; and speech over the agent that stops
is judged by its words before it is taken for a backchannel (docs/adr/0006-overlap-judged-by-words.md).

The steps of utterances are in `turn_utterances`, of speech over the agent in `turn_overlaps`, of replies in
`turn_replies`; here is what concerns more than one of them.
"""

from voxthread.core import events, inputs
from voxthread.core.effects import Effect, EndSession, HoldPlayout, RewindReply
from voxthread.core.failures import Failure
from voxthread.core.history import Message
from voxthread.core.inputs import Input
from voxthread.core.turn_overlaps import OverlapSteps
from voxthread.core.turn_resume import resume_reply
from voxthread.core.turn_state import (
    NO_REPLY,
    NO_TRANSCRIPT,
    REPLY_STALLED,
    REPLYING,
    Deadline,
    State,
    Utterance,
)
from voxthread.core.turn_table import EXPIRIES, TRANSITIONS

_S = State

UNREPORTED_MS = 400
"""Playout is reported each 200 ms, so that so much may have been played without anybody saying so."""

TAIL_MS = 60
"""A reply that was given anew behind its first part may lack the rest of the last packet of a clause or two."""


class TurnMachine(OverlapSteps):
    """One per session. Never waits: what it waits for is a deadline in the table of `_deadlines`."""

    @property
    def state(self) -> State:
        return self._state

    @property
    def history(self) -> tuple[Message, ...]:
        return self._history.messages

    @property
    def live_turn_id(self) -> int | None:
        return self._reply.turn_id if self._reply else None

    def deadline(self) -> int | None:
        return min(self._deadlines.values(), default=None)

    def handle(self, fact: Input, now: int) -> list[Effect]:
        """The fence is here and nowhere else: a result of an older turn or utterance changes nothing."""
        if self._is_stale(fact):
            self.stale_inputs += 1
            return []
        self._at_ms = now
        if isinstance(fact, inputs.TranscriptUpdated) and fact.final:
            self._live_utterance().text_given()
        transition = TRANSITIONS.get((self._state, type(fact)))
        if transition is not None:
            getattr(self, transition)(fact, now)
        return self._take_effects()

    def handle_deadline(self, now: int) -> list[Effect]:
        self._at_ms = now
        for deadline in [name for name, at in self._deadlines.items() if at <= now]:
            if self._deadlines.get(deadline, now + 1) <= now:
                del self._deadlines[deadline]
                getattr(self, EXPIRIES[deadline])(now)
        return self._take_effects()

    def _is_stale(self, fact: Input) -> bool:
        turn_id = getattr(fact, "turn_id", None)
        if turn_id is not None:
            return all(reply is None or reply.turn_id != turn_id for reply in (self._reply, self._speculation))
        utterance_id = getattr(fact, "utterance_id", None)
        return utterance_id is not None and (self._utterance is None or self._utterance.id != utterance_id)

    def _take_effects(self) -> list[Effect]:
        effects, self._effects = self._effects, []
        return effects

    # -- words that are late, or typed, or a word to be silent ------------------------------------------

    def grace_passed(self, now: int) -> None:
        """No final transcript in time: make do with the interim one, if there is any."""
        utterance = self._live_utterance()
        if self._state is _S.OVERLAP:
            self._judge_overlap(utterance, now)
        elif utterance.text:
            self._answer(utterance, now)
        else:
            self._fail_utterance(NO_TRANSCRIPT, now)

    def text_received(self, fact: inputs.TextReceived, now: int) -> None:
        """Typed words end whatever was being said; what was spoken so far comes before them."""
        spoken = ""
        if self._state in REPLYING:
            if self._state is not _S.OVERLAP:
                self._end_utterance()
            self._interrupt_reply()
        if self._utterance is None:
            self._utterance_count += 1
            self._utterance = Utterance(self._utterance_count)
        else:
            spoken = self._utterance.text
        self._withdraw_speculation()
        utterance = self._utterance
        utterance.text = f"{spoken} {fact.text}".strip()
        utterance.ended_ms = utterance.transcript_ms = now
        utterance.is_final = True
        self._answer(utterance, now)

    def interrupt_received(self, fact: inputs.InterruptReceived, now: int) -> None:
        state = self._state
        self._interrupt_reply()
        if state is _S.OVERLAP:
            self._hear_overlap_out(now)
        else:
            self._end_utterance()
            self._enter(_S.LISTENING, {})

    # -- the agent answers ------------------------------------------------------------------------------

    def reply_failed(self, fact: inputs.ReplyFailed, now: int) -> None:
        self._fail_reply(fact.failure, now)

    def _fail_reply(self, failure: Failure, now: int) -> None:
        reply, state = self._live_reply(), self._state
        self._stop_reply()
        self._publish_failure(failure, reply.turn_id)
        if state is _S.OVERLAP:
            self._hear_overlap_out(now)
        else:
            self._end_utterance()
            if reply.utterance is None:
                self._enter(_S.LISTENING, {})  # an apology that fails is not apologised for
            else:
                self._apologise(now)

    def first_audio_late(self, now: int) -> None:
        self._fail_unless_unheard(NO_REPLY, now)

    def reply_stalled(self, now: int) -> None:
        self._fail_unless_unheard(REPLY_STALLED, now)

    def _fail_unless_unheard(self, failure: Failure, now: int) -> None:
        """Audio that is there but not played is no failure of the agent: media or log are away for a while."""
        reply = self._live_reply()
        if reply.ledger.total_ms - reply.played_ms > UNREPORTED_MS:
            self._deadlines[Deadline.LINE] = now + self._policy.line_ms
        else:
            self._fail_reply(failure, now)

    # -- the caller hears -------------------------------------------------------------------------------

    def playout_drained(self, fact: inputs.PlayoutDrained, now: int) -> None:
        if self.is_line_lost:  # nobody heard it; it is played again
            return
        reply = self._live_reply()
        reply.played_ms = fact.played_ms
        if 0 < reply.ledger.total_ms - fact.played_ms <= TAIL_MS:
            reply.played_ms = reply.ledger.total_ms
        if not reply.has_ended:
            return
        if self._state is _S.THINKING:
            self.playout_started(inputs.PlayoutAdvanced(turn_id=fact.turn_id, played_ms=fact.played_ms), now)
        if self._state is _S.OVERLAP:
            self._end_reply(reply)
            self._hear_overlap_out(now)
        else:
            self._complete_reply(now)

    # -- the line is lost and comes back ----------------------------------------------------------------

    def line_lost(self, fact: inputs.LineLost, now: int) -> None:
        """What was said so far is answered; nothing more is expected of the caller, or heard by them."""
        if self._line_lost_ms is not None:
            return
        self._line_lost_ms = now
        reply = self._reply
        if reply is not None and fact.heard_turn_id is not None:
            heard_ms = fact.heard_ms if fact.heard_turn_id == reply.turn_id else 0
            reply.played_ms = min(reply.played_ms, heard_ms)
        if self._state is _S.USER_SPEAKING:
            self.speech_stopped(inputs.SpeechStopped(), now)
        elif self._state is _S.OVERLAP:
            if self._live_utterance().ended_ms is None:
                self.speech_stopped_overlap(inputs.SpeechStopped(), now)
        else:
            self._enter(self._state, self._deadlines)

    def line_resumed(self, fact: inputs.LineResumed, now: int) -> None:
        """Go on from the last word heard, and say that what the caller said meanwhile was not."""
        if self._line_lost_ms is None:
            return
        self._publish(events.SessionResumed(away_ms=now - self._line_lost_ms))
        self._line_lost_ms = None
        reply = self._reply
        if reply is not None:
            heard_ms = reply.ledger.word_start_ms(reply.played_ms)
            rest = resume_reply(reply, self._history.messages)
            self._do(RewindReply(turn_id=reply.turn_id, to_ms=heard_ms, reply=rest))
        self._is_notice_due = reply is None or reply.speech != self._policy.line_notice
        match self._state:
            case _S.LISTENING:
                self._rest(now)
            case _S.THINKING:
                self._enter(_S.THINKING, {Deadline.FIRST_AUDIO: now + self._policy.first_audio_ms})
            case _S.SPEAKING:
                self._enter(_S.SPEAKING, {Deadline.STALL: now + self._policy.stall_ms})
            case _S.OVERLAP:
                self._do(HoldPlayout(turn_id=self._live_reply().turn_id))
            case _:
                pass

    def line_away_too_long(self, now: int) -> None:
        """The caller has not come back to hear the rest."""
        self.interrupt_received(inputs.InterruptReceived(), now)

    # -- the end ----------------------------------------------------------------------------------------

    def session_ended(self, fact: inputs.SessionEnded, now: int) -> None:
        self._withdraw_speculation()
        if self._reply is not None:
            self._stop_reply()
        self._end_utterance()
        self._publish(events.SessionClosed(reason=fact.reason))
        self._do(EndSession(reason=fact.reason))
        self._enter(_S.CLOSED, {})
