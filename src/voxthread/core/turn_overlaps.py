"""Speech over the agent: the reply is held at once, and the words decide whether it goes on.

Speech that stops is judged by its words before it is taken for a backchannel
(docs/adr/0006-overlap-judged-by-words.md).
"""

from voxthread.core import events, inputs
from voxthread.core.effects import HoldPlayout, ResumePlayout
from voxthread.core.endpointing import means_interruption
from voxthread.core.turn_state import Deadline, State, Utterance
from voxthread.core.turn_utterances import UtteranceSteps

_S = State


class OverlapSteps(UtteranceSteps):
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
