"""What can go wrong on the caller's side of a call."""

from voxthread.core.failures import VoiceError


class CallError(VoiceError):
    """A call that could not be placed, was lost, or was not answered; `detail` says what to do about it."""

    stage = "call"


class SpeechError(VoiceError):
    """Something to say that cannot be said: an unreadable WAV, no voice to speak a text with."""

    stage = "speech"


class BenchError(VoiceError):
    """A measurement that does not measure what it says."""

    stage = "bench"
