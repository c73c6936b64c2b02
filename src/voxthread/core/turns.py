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
"""

from voxthread.core import events, inputs
from voxthread.core.effects import (
    Effect,
    EndSession,
    FinishTranscription,
    HoldPlayout,
    PredictEndOfTurn,
    PrepareReply,
    ResumePlayout,
    RewindReply,
)
from voxthread.core.endpointing import means_interruption
from voxthread.core.failures import Failure
from voxthread.core.history import Message
from voxthread.core.inputs import Input
from voxthread.core.turn_replies import ReplySteps
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


class TurnMachine(ReplySteps):
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

    # -- the caller speaks -----------------------------------------------------------------------------

    def speech_started_listening(self, fact: inputs.SpeechStarted, now: int) -> None:
        self._open_utterance(now)
        self._enter(_S.USER_SPEAKING, {Deadline.MAX_UTTERANCE: now + self._policy.max_utterance_ms})

    def speech_resumed(self, fact: inputs.SpeechStarted, now: int) -> None:
        """ENDPOINTING: the same utterance goes on, and what was guessed about its end is void."""
        utterance = self._live_utterance()
        utterance.resume()
        self._withdraw_speculation()
        self._publish(events.UserSpeechStarted(utterance_id=utterance.id))
        self._enter(_S.USER_SPEAKING, {Deadline.MAX_UTTERANCE: now + self._policy.max_utterance_ms})

    def speech_started_thinking(self, fact: inputs.SpeechStarted, now: int) -> None:
        """Nothing of the answer was heard yet, so the question goes on (or is a new one after a greeting)."""
        reply = self._live_reply()
        self._stop_reply()
        if reply.utterance is not None:
            self._history.take_back_unanswered()
        if self._utterance is None:
            self.speech_started_listening(fact, now)
        else:
            self.speech_resumed(fact, now)

    def speech_paused(self, fact: inputs.SpeechPaused, now: int) -> None:
        """Have the words and the verdict ready by the time that silence has lasted long enough to be a stop."""
        utterance = self._live_utterance()
        utterance.is_paused = True
        self._finish_transcription(utterance)
        if self._state is _S.USER_SPEAKING:
            self._do(PredictEndOfTurn(utterance_id=utterance.id))

    def speech_continued(self, fact: inputs.SpeechContinued, now: int) -> None:
        self._live_utterance().resume()

    def speech_stopped(self, fact: inputs.SpeechStopped, now: int) -> None:
        utterance = self._live_utterance()
        utterance.ended_ms = now - fact.silence_ms
        if not utterance.is_paused:
            self._finish_transcription(utterance)
        self._publish(events.UserSpeechStopped(utterance_id=utterance.id))
        if utterance.failure is not None:
            self._fail_utterance(utterance.failure, now)
        else:
            self._wait_for_endpoint(now)

    def _finish_transcription(self, utterance: Utterance) -> None:
        utterance.texts_owed += 1
        self._do(FinishTranscription(utterance_id=utterance.id))

    def _wait_for_endpoint(self, now: int) -> None:
        utterance = self._live_utterance()
        if not utterance.verdicts:
            self._do(PredictEndOfTurn(utterance_id=utterance.id))
        self._enter(_S.ENDPOINTING, {Deadline.ASK: now + self._policy.endpoint.ask_every_ms})
        self._set_endpoint(now)
        self._decide(now)
        self._speculate_if_known(utterance, now)

    def _set_endpoint(self, now: int) -> None:
        """By what is known now of the utterance: the newest verdict, and the words once they are all there."""
        utterance = self._live_utterance()
        ended_ms = utterance.ended_ms if utterance.ended_ms is not None else now
        text = utterance.text if utterance.is_final else None
        endpoint_ms = ended_ms + self._policy.endpoint.patience_ms(utterance.verdicts, text)
        self._deadlines[Deadline.ENDPOINT] = max(now, endpoint_ms)
        self._deadlines[Deadline.GRACE] = max(now, endpoint_ms + self._policy.stt_grace_ms)

    def utterance_too_long(self, now: int) -> None:
        """The caller does not stop: answer what was said so far."""
        utterance = self._live_utterance()
        utterance.ended_ms = now
        self._finish_transcription(utterance)
        self._publish(events.UserSpeechStopped(utterance_id=utterance.id))
        self._enter(_S.ENDPOINTING, {Deadline.ENDPOINT: now, Deadline.GRACE: now + self._policy.stt_grace_ms})

    def end_of_turn_predicted_speaking(self, fact: inputs.EndOfTurnPredicted, now: int) -> None:
        utterance = self._live_utterance()
        if utterance.is_paused:
            utterance.verdicts = (*utterance.verdicts, fact.probability)

    def end_of_turn_predicted(self, fact: inputs.EndOfTurnPredicted, now: int) -> None:
        if Deadline.ASK not in self._deadlines:  # the caller did not stop, and is answered all the same
            return
        utterance = self._live_utterance()
        utterance.verdicts = (*utterance.verdicts, fact.probability)
        self._set_endpoint(now)
        self._decide(now)

    def ask_again(self, now: int) -> None:
        self._do(PredictEndOfTurn(utterance_id=self._live_utterance().id))
        self._deadlines[Deadline.ASK] = now + self._policy.endpoint.ask_every_ms

    # -- what the caller said --------------------------------------------------------------------------

    def transcript_updated(self, fact: inputs.TranscriptUpdated, now: int) -> None:
        utterance = self._live_utterance()
        utterance.text = fact.text
        # A final text asked for before the caller went on speaking does not cover the rest.
        has_paused = utterance.is_paused or utterance.ended_ms is not None
        if fact.final and has_paused and not utterance.texts_owed:
            utterance.is_final = True
            utterance.transcript_ms = now
        if fact.text:
            self._publish(events.UserTranscript(utterance_id=utterance.id, text=fact.text, final=False))

    def transcript_speaking(self, fact: inputs.TranscriptUpdated, now: int) -> None:
        """The last word of an interim text is the one most likely to change, so it is not prepared for."""
        self.transcript_updated(fact, now)
        settled = fact.text if self._live_utterance().is_final else fact.text.rpartition(" ")[0]
        if settled:
            self._do(PrepareReply(history=self._history.messages, utterance=settled))

    def transcript_endpointing(self, fact: inputs.TranscriptUpdated, now: int) -> None:
        self.transcript_updated(fact, now)
        utterance = self._live_utterance()
        if self._speculation is not None and self._speculation.utterance != utterance.text:
            self._withdraw_speculation()
        if utterance.is_final and Deadline.ASK in self._deadlines:
            self._set_endpoint(now)
        self._decide(now)
        self._speculate_if_known(utterance, now)

    def _speculate_if_known(self, utterance: Utterance, now: int) -> None:
        if self._state is _S.ENDPOINTING and utterance.is_final and utterance.text:
            self._speculate(utterance, now)

    def transcription_failed(self, fact: inputs.TranscriptionFailed, now: int) -> None:
        """While the caller speaks the failure waits: an apology would talk over them."""
        self._live_utterance().failure = fact.failure

    def transcription_failed_endpointing(self, fact: inputs.TranscriptionFailed, now: int) -> None:
        self._fail_utterance(fact.failure, now)

    def _fail_utterance(self, failure: Failure, now: int) -> None:
        self._withdraw_speculation()
        self._end_utterance()
        self._publish_failure(failure, None)
        self._apologise(now)

    def _decide(self, now: int) -> None:
        """ENDPOINTING: answer once the endpoint has passed and the words are known."""
        if Deadline.ENDPOINT in self._deadlines and self._deadlines[Deadline.ENDPOINT] > now:
            return
        self._deadlines.pop(Deadline.ENDPOINT, None)
        utterance = self._live_utterance()
        if not utterance.is_final:
            return
        if utterance.text:
            self._answer(utterance, now)
        else:
            self._end_utterance()
            self._rest(now)

    def endpoint_passed(self, now: int) -> None:
        self._decide(now)

    def grace_passed(self, now: int) -> None:
        """No final transcript in time: make do with the interim one, if there is any."""
        utterance = self._live_utterance()
        if self._state is _S.OVERLAP:
            self._judge_overlap(utterance, now)
        elif utterance.text:
            self._answer(utterance, now)
        else:
            self._fail_utterance(
                NO_TRANSCRIPT,
                now,
            )

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
        self._answer(utterance, now)

    # -- the agent answers -----------------------------------------------------------------------------

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

    # -- the caller hears ------------------------------------------------------------------------------

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

    # -- the caller speaks over the agent --------------------------------------------------------------

    def speech_started_speaking(self, fact: inputs.SpeechStarted, now: int) -> None:
        reply = self._live_reply()
        self._do(HoldPlayout(turn_id=reply.turn_id))
        self._publish(events.AgentSpeechHeld(turn_id=reply.turn_id))
        self._open_utterance(now)
        self._enter(_S.OVERLAP, {Deadline.OVERLAP: now - fact.speech_ms + self._policy.overlap_ms})

    def speech_resumed_overlap(self, fact: inputs.SpeechStarted, now: int) -> None:
        self._live_utterance().resume()
        self._enter(_S.OVERLAP, {Deadline.OVERLAP: now - fact.speech_ms + self._policy.overlap_ms})

    def speech_stopped_overlap(self, fact: inputs.SpeechStopped, now: int) -> None:
        """Too short to be an interruption by length alone: the words decide."""
        utterance = self._live_utterance()
        utterance.ended_ms = now - fact.silence_ms
        if not utterance.is_paused:
            self._finish_transcription(utterance)
        elif utterance.is_final:
            self._judge_overlap(utterance, now)
            return
        self._enter(_S.OVERLAP, {Deadline.GRACE: now + self._policy.stt_grace_ms})

    def transcript_overlap(self, fact: inputs.TranscriptUpdated, now: int) -> None:
        """A first word is often misheard ("So" of "Oh, okay"): before the caller stops it takes two."""
        self.transcript_updated(fact, now)
        utterance = self._live_utterance()
        has_stopped = utterance.is_final and utterance.ended_ms is not None
        is_first_word = " " not in utterance.text
        if has_stopped or (not is_first_word and means_interruption(utterance.text, self._policy.backchannels)):
            self._judge_overlap(utterance, now)

    def transcription_failed_overlap(self, fact: inputs.TranscriptionFailed, now: int) -> None:
        """Words that cannot be known cannot want the floor; only the length of the speech can."""
        utterance = self._live_utterance()
        utterance.failure = fact.failure
        if utterance.ended_ms is not None:
            self._judge_overlap(utterance, now)

    def _judge_overlap(self, utterance: Utterance, now: int) -> None:
        if means_interruption(utterance.text, self._policy.backchannels):
            self.overlap_interrupts(now)
        else:
            reply = self._live_reply()
            self._publish(events.UserSpeechStopped(utterance_id=utterance.id))
            self._end_utterance()
            self._do(ResumePlayout(turn_id=reply.turn_id))
            self._publish(events.AgentSpeechResumed(turn_id=reply.turn_id))
            self._enter(_S.SPEAKING, {Deadline.STALL: now + self._policy.stall_ms})

    def overlap_interrupts(self, now: int) -> None:
        self._interrupt_reply()
        self._hear_overlap_out(now)

    def _hear_overlap_out(self, now: int) -> None:
        """The reply is gone: the overlapping utterance is now an ordinary one."""
        utterance = self._live_utterance()
        if utterance.ended_ms is None:
            self._enter(_S.USER_SPEAKING, {Deadline.MAX_UTTERANCE: now + self._policy.max_utterance_ms})
        elif utterance.failure is not None:
            self._fail_utterance(utterance.failure, now)
        else:
            self._publish(events.UserSpeechStopped(utterance_id=utterance.id))
            self._wait_for_endpoint(now)

    def interrupt_received(self, fact: inputs.InterruptReceived, now: int) -> None:
        state = self._state
        self._interrupt_reply()
        if state is _S.OVERLAP:
            self._hear_overlap_out(now)
        else:
            self._end_utterance()
            self._enter(_S.LISTENING, {})

    # -- the line is lost and comes back ---------------------------------------------------------------

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

    # -- the end ---------------------------------------------------------------------------------------

    def session_ended(self, fact: inputs.SessionEnded, now: int) -> None:
        self._withdraw_speculation()
        if self._reply is not None:
            self._stop_reply()
        self._end_utterance()
        self._publish(events.SessionClosed(reason=fact.reason))
        self._do(EndSession(reason=fact.reason))
        self._enter(_S.CLOSED, {})
