"""Utterances of the caller, from the first sound to the turn: what was said, and when it is over."""

from voxthread.core import events, inputs
from voxthread.core.effects import FinishTranscription, PredictEndOfTurn, PrepareReply
from voxthread.core.failures import Failure
from voxthread.core.turn_replies import ReplySteps
from voxthread.core.turn_state import Deadline, State, Utterance

_S = State


class UtteranceSteps(ReplySteps):
    # -- speech -----------------------------------------------------------------------------------------

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

    # -- words ------------------------------------------------------------------------------------------

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
