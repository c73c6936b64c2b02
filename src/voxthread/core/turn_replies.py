"""Replies of the agent, from the first guess to the last word heard: the half of the turn machine that needs
no caller to speak."""

from voxthread.core import events, inputs
from voxthread.core.effects import CommitReply, StartReply, StartSpeech, WithdrawReply
from voxthread.core.timing import TurnClock
from voxthread.core.turn_state import Deadline, Reply, State, Utterance
from voxthread.core.turn_steps import TurnSteps

_S = State


class ReplySteps(TurnSteps):
    # -- begun, guessed or fixed ------------------------------------------------------------------------

    def _speculate(self, utterance: Utterance, now: int) -> None:
        if not self._policy.speculate or self._speculation is not None:
            return
        reply = self._speculation = self._new_reply(utterance)
        self._do(
            StartReply(
                turn_id=reply.turn_id,
                history=self._history.messages,
                utterance=utterance.text,
                speculative=True,
            )
        )

    def _answer(self, utterance: Utterance, now: int) -> None:
        """The turn is confirmed: commit to the reply guessed at, or start one."""
        self._idle_prompts = 0
        before = self._history.messages
        self._history.user_said(utterance.text)
        reply, self._speculation = self._speculation, None
        if reply is not None and reply.utterance != utterance.text:
            self._do(WithdrawReply(turn_id=reply.turn_id))
            reply = None
        is_committed = reply is not None
        if reply is None:
            reply = self._new_reply(utterance)
        self._publish(
            events.UserTranscript(
                turn_id=reply.turn_id, utterance_id=utterance.id, text=utterance.text, final=True
            )
        )
        if is_committed:
            self._do(CommitReply(turn_id=reply.turn_id))
            for timing in reply.clock.timings():
                self._publish(timing)
            if reply.text:
                self._publish(events.AgentReplyDelta(turn_id=reply.turn_id, text=reply.text))
        else:
            self._do(StartReply(turn_id=reply.turn_id, history=before, utterance=utterance.text))
        self._think(reply, now)
        self._mark(reply, "transcript", utterance.transcript_ms if utterance.transcript_ms is not None else now)
        self._mark(reply, "turn_decided", now)
        if reply.ledger.total_ms:
            self._mark(reply, "sent", now)
        if reply.has_ended and not reply.ledger.total_ms:
            self._complete_reply(now)

    def speech_requested(self, fact: inputs.SpeechRequested, now: int) -> None:
        self._say(fact.text, now)

    def _say(self, text: str, now: int) -> None:
        self._turn_count += 1
        reply = Reply(self._turn_count, TurnClock(self._turn_count, None), speech=text)
        self._do(StartSpeech(turn_id=reply.turn_id, text=text))
        self._think(reply, now)

    def idle_too_long(self, now: int) -> None:
        self._idle_prompts += 1
        self._say(self._policy.idle_prompt, now)

    def _apologise(self, now: int) -> None:
        if self._policy.apology:
            self._say(self._policy.apology, now)
        else:
            self._enter(_S.LISTENING, {})

    def reply_delta(self, fact: inputs.ReplyDelta, now: int) -> None:
        reply = self._reply_of(fact.turn_id)
        self._mark(reply, "llm_first_token", now)
        reply.text += fact.text
        if reply is not self._speculation:
            self._publish(events.AgentReplyDelta(turn_id=reply.turn_id, text=fact.text))
        self._postpone_stall(now)

    def clause_planned(self, fact: inputs.ClausePlanned, now: int) -> None:
        reply = self._reply_of(fact.turn_id)
        reply.ledger.plan(fact.text)
        self._mark(reply, "first_clause", now)
        self._postpone_stall(now)

    def audio_synthesized(self, fact: inputs.AudioSynthesized, now: int) -> None:
        reply = self._reply_of(fact.turn_id)
        reply.ledger.add_audio(fact.clause, fact.duration_ms)
        self._mark(reply, "first_audio", now)
        if reply is not self._speculation:
            self._mark(reply, "sent", now)
        self._postpone_stall(now)

    def reply_ended(self, fact: inputs.ReplyEnded, now: int) -> None:
        reply = self._reply_of(fact.turn_id)
        reply.has_ended = True
        reply.ledger.finish()
        if self._state is _S.THINKING and not reply.ledger.total_ms:
            self._complete_reply(now)

    def speculation_failed(self, fact: inputs.ReplyFailed, now: int) -> None:
        """ENDPOINTING: nobody has heard of it; the reply is started afresh when the turn is confirmed."""
        self._withdraw_speculation()

    # -- heard ------------------------------------------------------------------------------------------

    def playout_started(self, fact: inputs.PlayoutAdvanced, now: int) -> None:
        reply = self._live_reply()
        self._advance(reply, fact.played_ms)
        self._end_utterance()
        self._mark(reply, "heard", now)
        self._publish(events.AgentSpeechStarted(turn_id=reply.turn_id))
        self._enter(_S.SPEAKING, {Deadline.STALL: now + self._policy.stall_ms})

    def playout_advanced(self, fact: inputs.PlayoutAdvanced, now: int) -> None:
        self._advance(self._live_reply(), fact.played_ms)
        self._postpone_stall(now)

    def _advance(self, reply: Reply, played_ms: int) -> None:
        """What is played while the line is lost is heard by nobody."""
        if not self.is_line_lost:
            reply.played_ms = played_ms

    def _complete_reply(self, now: int) -> None:
        self._end_reply(self._live_reply())
        self._end_utterance()
        self._rest(now)

    def _rest(self, now: int) -> None:
        """Nothing is left to do, but to say that the line was lost if it was."""
        is_notice_due, self._is_notice_due = self._is_notice_due and not self.is_line_lost, False
        if is_notice_due and self._policy.line_notice:
            self._say(self._policy.line_notice, now)
        else:
            self._enter(_S.LISTENING, {})
