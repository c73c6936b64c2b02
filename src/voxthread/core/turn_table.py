"""The transition table of the turn machine: every (state, input) pair, handled or ignored, in one place.

The entries name methods of `TurnMachine`; `IGNORED` lists the pairs that change nothing, so that a new state
or input cannot be forgotten (`tests/unit/test_turn_table.py` checks that the two cover everything).
"""

from voxthread.core import inputs as i
from voxthread.core.inputs import Input
from voxthread.core.turn_state import Deadline, State

_S = State

TRANSITIONS: dict[tuple[State, type[Input]], str] = {
    (_S.LISTENING, i.SpeechStarted): "speech_started_listening",
    (_S.LISTENING, i.TextReceived): "text_received",
    (_S.LISTENING, i.SpeechRequested): "speech_requested",
    (_S.USER_SPEAKING, i.SpeechStopped): "speech_stopped",
    (_S.USER_SPEAKING, i.SpeechPaused): "speech_paused",
    (_S.USER_SPEAKING, i.SpeechContinued): "speech_continued",
    (_S.USER_SPEAKING, i.EndOfTurnPredicted): "end_of_turn_predicted_speaking",
    (_S.USER_SPEAKING, i.TranscriptUpdated): "transcript_speaking",
    (_S.USER_SPEAKING, i.TranscriptionFailed): "transcription_failed",
    (_S.USER_SPEAKING, i.TextReceived): "text_received",
    (_S.ENDPOINTING, i.SpeechStarted): "speech_resumed",
    (_S.ENDPOINTING, i.EndOfTurnPredicted): "end_of_turn_predicted",
    (_S.ENDPOINTING, i.TranscriptUpdated): "transcript_endpointing",
    (_S.ENDPOINTING, i.TranscriptionFailed): "transcription_failed_endpointing",
    (_S.ENDPOINTING, i.TextReceived): "text_received",
    (_S.ENDPOINTING, i.ReplyDelta): "reply_delta",
    (_S.ENDPOINTING, i.ClausePlanned): "clause_planned",
    (_S.ENDPOINTING, i.AudioSynthesized): "audio_synthesized",
    (_S.ENDPOINTING, i.ReplyEnded): "reply_ended",
    (_S.ENDPOINTING, i.ReplyFailed): "speculation_failed",
    (_S.THINKING, i.SpeechStarted): "speech_started_thinking",
    (_S.THINKING, i.TextReceived): "text_received",
    (_S.THINKING, i.InterruptReceived): "interrupt_received",
    (_S.THINKING, i.ReplyDelta): "reply_delta",
    (_S.THINKING, i.ClausePlanned): "clause_planned",
    (_S.THINKING, i.AudioSynthesized): "audio_synthesized",
    (_S.THINKING, i.ReplyEnded): "reply_ended",
    (_S.THINKING, i.ReplyFailed): "reply_failed",
    (_S.THINKING, i.PlayoutAdvanced): "playout_started",
    (_S.THINKING, i.PlayoutDrained): "playout_drained",
    (_S.SPEAKING, i.SpeechStarted): "speech_started_speaking",
    (_S.SPEAKING, i.TextReceived): "text_received",
    (_S.SPEAKING, i.InterruptReceived): "interrupt_received",
    (_S.SPEAKING, i.ReplyDelta): "reply_delta",
    (_S.SPEAKING, i.ClausePlanned): "clause_planned",
    (_S.SPEAKING, i.AudioSynthesized): "audio_synthesized",
    (_S.SPEAKING, i.ReplyEnded): "reply_ended",
    (_S.SPEAKING, i.ReplyFailed): "reply_failed",
    (_S.SPEAKING, i.PlayoutAdvanced): "playout_advanced",
    (_S.SPEAKING, i.PlayoutDrained): "playout_drained",
    (_S.OVERLAP, i.SpeechStarted): "speech_resumed_overlap",
    (_S.OVERLAP, i.SpeechStopped): "speech_stopped_overlap",
    (_S.OVERLAP, i.SpeechPaused): "speech_paused",
    (_S.OVERLAP, i.SpeechContinued): "speech_continued",
    (_S.OVERLAP, i.TranscriptUpdated): "transcript_overlap",
    (_S.OVERLAP, i.TranscriptionFailed): "transcription_failed_overlap",
    (_S.OVERLAP, i.TextReceived): "text_received",
    (_S.OVERLAP, i.InterruptReceived): "interrupt_received",
    (_S.OVERLAP, i.ReplyDelta): "reply_delta",
    (_S.OVERLAP, i.ClausePlanned): "clause_planned",
    (_S.OVERLAP, i.AudioSynthesized): "audio_synthesized",
    (_S.OVERLAP, i.ReplyEnded): "reply_ended",
    (_S.OVERLAP, i.ReplyFailed): "reply_failed",
    (_S.OVERLAP, i.PlayoutAdvanced): "playout_advanced",
    (_S.OVERLAP, i.PlayoutDrained): "playout_drained",
    **{(state, i.LineLost): "line_lost" for state in _S if state is not _S.CLOSED},
    **{(state, i.LineResumed): "line_resumed" for state in _S if state is not _S.CLOSED},
    **{(state, i.SessionEnded): "session_ended" for state in _S if state is not _S.CLOSED},
}

_OF_A_REPLY: tuple[type[Input], ...] = (
    i.ReplyDelta,
    i.ClausePlanned,
    i.AudioSynthesized,
    i.ReplyEnded,
    i.ReplyFailed,
    i.PlayoutAdvanced,
    i.PlayoutDrained,
)
_WITHIN_SPEECH: tuple[type[Input], ...] = (i.SpeechPaused, i.SpeechContinued)
_OF_AN_UTTERANCE: tuple[type[Input], ...] = (i.EndOfTurnPredicted, i.TranscriptUpdated, i.TranscriptionFailed)

IGNORED: dict[State, tuple[type[Input], ...]] = {
    # No reply and no utterance is live; a stop is the end of speech that was answered by typing.
    _S.LISTENING: (i.SpeechStopped, i.InterruptReceived, *_WITHIN_SPEECH, *_OF_AN_UTTERANCE, *_OF_A_REPLY),
    # The agent does not greet over the caller.
    _S.USER_SPEAKING: (
        i.SpeechStarted,
        i.InterruptReceived,
        i.SpeechRequested,
        *_OF_A_REPLY,
    ),
    # Speculative audio is kept back, so none of it can be played.
    _S.ENDPOINTING: (
        *_WITHIN_SPEECH,
        i.SpeechStopped,
        i.InterruptReceived,
        i.SpeechRequested,
        i.PlayoutAdvanced,
        i.PlayoutDrained,
    ),
    # The answered utterance may still have results under way.
    _S.THINKING: (*_WITHIN_SPEECH, i.SpeechStopped, i.SpeechRequested, *_OF_AN_UTTERANCE),
    _S.SPEAKING: (*_WITHIN_SPEECH, i.SpeechStopped, i.SpeechRequested, *_OF_AN_UTTERANCE),
    _S.OVERLAP: (i.SpeechRequested, i.EndOfTurnPredicted),
    _S.CLOSED: (
        i.SpeechStarted,
        *_WITHIN_SPEECH,
        i.SpeechStopped,
        i.TextReceived,
        i.InterruptReceived,
        i.SpeechRequested,
        i.LineLost,
        i.LineResumed,
        i.SessionEnded,
        *_OF_AN_UTTERANCE,
        *_OF_A_REPLY,
    ),
}

EXPIRIES: dict[Deadline, str] = {
    Deadline.MAX_UTTERANCE: "utterance_too_long",
    Deadline.ENDPOINT: "endpoint_passed",
    Deadline.GRACE: "grace_passed",
    Deadline.ASK: "ask_again",
    Deadline.FIRST_AUDIO: "first_audio_late",
    Deadline.STALL: "reply_stalled",
    Deadline.OVERLAP: "overlap_interrupts",
    Deadline.LINE: "line_away_too_long",
    Deadline.IDLE: "idle_too_long",
}
