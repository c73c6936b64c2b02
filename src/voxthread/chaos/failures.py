"""What keeps chaos from being measured."""

from voxthread.core.failures import VoiceError


class ChaosError(VoiceError):
    stage = "chaos"
