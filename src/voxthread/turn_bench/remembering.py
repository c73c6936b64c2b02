"""What was heard, and of which audio: so that the full window can be asked about the same."""

import numpy as np

from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.whisper import Decoder
from voxthread.engines.stt.windows import LONGEST_PIECE_SAMPLES


class RememberingDecoder:
    """A `Decoder` that keeps the audio of each text until it is told to `forget`."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._audio: dict[str, FloatSamples] = {}

    def transcribe(self, samples: FloatSamples) -> str:
        text = self._decoder.transcribe(samples)
        self._audio[text] = samples
        return text

    def forget(self) -> None:
        self._audio.clear()

    def audio_of(self, text: str) -> FloatSamples:
        """What was last heard as `text`; raises `KeyError` if nothing was."""
        return self._audio[text]


def in_full(decoder: Decoder, speech: FloatSamples) -> str:
    """Padded to the longest piece, speech gets the full window."""
    speech = speech[:LONGEST_PIECE_SAMPLES]
    return decoder.transcribe(np.pad(speech, (0, LONGEST_PIECE_SAMPLES - len(speech))))
