"""Whisper on CTranslate2 with a short encoder window: 100 ms of one core for a turn, not 500.

Two things make the short window safe. The encoder's states of *silence*, taken once from a full window, are
appended to those of the speech, so that the decoder sees the long quiet end it was trained to stop at;
without them it says a fifth of short utterances twice, with them hardly any, and errs no more than with the
full window (120 clips of four synthetic voices: 7.3 % of words wrong, full window 8.8 %). And a text that
still looks like a replay, or is doubted, is decoded once more with the full window.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from voxthread.core.audio import SPEECH_RATE_HZ
from voxthread.core.failures import ModelFileError, TranscriptionError
from voxthread.engines.features import log_mel
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.replay import ends_in_replay
from voxthread.engines.stt.windows import FULL_WINDOW_SAMPLES, LONGEST_PIECE_SAMPLES, short_window_samples

_SILENCE_STRIDE = 4
"""Every fourth state of silence does as well as all of them, at a third of the decoder's extra time."""

_TOKENS_PER_SECOND = 8
_SPARE_TOKENS = 12
_MAX_TOKENS = 448

_SILENCE_PEAK = 0.003
"""-50 dBFS: nothing to transcribe, not worth asking."""

_NO_SPEECH_PROBABILITY = 0.6
_UNSURE_LOG_PROBABILITY = -1.0
"""As in openai/whisper's `transcribe.py`: noise is what the model takes for no speech and is unsure of."""

_GUESS_LOG_PROBABILITY = -2.0
"""Clicks, hums, breath, beeps and noise score -2 to -3.6 a token, the shortest words -1.5 (measured)."""

_DOUBTED_LOG_PROBABILITY = -0.7
_DOUBTED_FROM_SAMPLES = 2 * SPEECH_RATE_HZ
"""A text that scores less a token is compared with the full window's, and the likelier kept: of 9 such dictated
numbers (`voxthread bench turns`) that writes 5 better and none worse, most of all digits said twice ("5.5, 0.1"
of "five five five, oh one"); other sentences hardly ever score so little. Single words do even when right."""


class WhisperModel:
    """A CTranslate2 Whisper directory (model.bin, config.json, vocabulary, tokenizer.json), loaded and warm.

    Blocking; one call at a time. Raises `ModelFileError`.
    """

    def __init__(self, model_dir: Path, *, threads: int = 1, language: str = "en") -> None:
        if not (model_dir / "model.bin").is_file():
            raise ModelFileError("models.missing", f"no Whisper in {model_dir}; run `voxthread models pull`")
        try:
            self._model = ctranslate2.models.Whisper(
                str(model_dir), compute_type="int8", intra_threads=threads, inter_threads=1
            )
            self._tokenizer = Tokenizer.from_file(str(model_dir / "tokenizer.json"))
        except Exception as error:  # `tokenizers` raises nothing more specific
            raise ModelFileError("models.corrupt", f"{model_dir} cannot be loaded: {error}") from error
        self._prompt = self._prompt_tokens(language)
        self._silence = np.array(self._encode(np.zeros(FULL_WINDOW_SAMPLES, np.float32)))

    def transcribe(self, samples: FloatSamples) -> str:
        """Text of at most 29 s of 16 kHz speech; empty for silence and noise. Raises `TranscriptionError`."""
        if len(samples) > LONGEST_PIECE_SAMPLES:
            raise ValueError(f"{len(samples)} samples are more than {LONGEST_PIECE_SAMPLES}")
        if not len(samples) or np.abs(samples).max() < _SILENCE_PEAK:
            return ""
        try:
            short = self._decode(samples, self._encode_short(samples))
            is_suspect = not short.is_complete or ends_in_replay(short.text)
            if not is_suspect and not _is_doubted(short, len(samples)):
                return short.text
            full = self._decode(samples, self._encode(_padded(samples, FULL_WINDOW_SAMPLES)))
            is_likelier = full.is_complete and full.score > short.score
            return full.text if is_suspect or is_likelier else short.text
        except RuntimeError as error:
            raise TranscriptionError("stt.inference", f"Whisper failed: {error}", retryable=True) from error

    def _prompt_tokens(self, language: str) -> list[int]:
        names = ["<|startoftranscript|>"]
        if self._model.is_multilingual:
            names += [f"<|{language}|>", "<|transcribe|>"]
        names.append("<|notimestamps|>")
        tokens = [self._tokenizer.token_to_id(name) for name in names]
        known = [token for token in tokens if token is not None]
        if len(known) < len(names):
            raise ModelFileError("models.corrupt", f"the tokenizer lacks one of {', '.join(names)}")
        return known

    def _encode_short(self, samples: FloatSamples) -> NDArray[np.float32]:
        speech = self._encode(_padded(samples, short_window_samples(len(samples))))
        return np.concatenate((speech, self._silence[:, speech.shape[1] :: _SILENCE_STRIDE]), axis=1)

    def _encode(self, window: FloatSamples) -> NDArray[np.float32]:
        """Encoder states, shape (1, 20 ms positions, width)."""
        return np.asarray(self._model.encode(_storage(log_mel(window)[None]), to_cpu=True))

    def _decode(self, samples: FloatSamples, states: NDArray[np.float32]) -> "_Decoded":
        room = _SPARE_TOKENS + _TOKENS_PER_SECOND * len(samples) // SPEECH_RATE_HZ
        result = self._model.generate(
            _storage(states),
            [self._prompt],
            beam_size=1,
            max_length=min(_MAX_TOKENS, len(self._prompt) + room),
            return_scores=True,
            return_no_speech_prob=True,
        )[0]
        if _is_noise(result):
            return _Decoded(text="", is_complete=True, score=0.0)
        tokens = result.sequences_ids[0]
        text = self._tokenizer.decode(tokens, skip_special_tokens=True).strip()
        return _Decoded(
            text=text if any(map(str.isalnum, text)) else "",
            is_complete=len(tokens) < room,
            score=result.scores[0],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Decoded:
    text: str
    is_complete: bool
    """The decoder ended it itself instead of running into the limit."""
    score: float
    """Mean log probability of its tokens."""


def _is_doubted(decoded: _Decoded, samples: int) -> bool:
    return samples >= _DOUBTED_FROM_SAMPLES and decoded.score < _DOUBTED_LOG_PROBABILITY


def _is_noise(result: Any) -> bool:
    score = result.scores[0]
    if score < _GUESS_LOG_PROBABILITY:
        return True
    return bool(score < _UNSURE_LOG_PROBABILITY and result.no_speech_prob > _NO_SPEECH_PROBABILITY)


def _padded(samples: FloatSamples, length: int) -> FloatSamples:
    return np.pad(samples, (0, length - len(samples)))


def _storage(values: NDArray[np.float32]) -> Any:
    return ctranslate2.StorageView.from_array(np.ascontiguousarray(values))
