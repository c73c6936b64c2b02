"""The word of a page that a misheard or misspelt word was meant to be."""

from collections.abc import Iterable
from itertools import groupby
from typing import Final

MIN_LIKENESS: Final = 0.6
SOUND_LIKENESS: Final = 0.75
"""How alike two words are that sound the same and are spelt otherwise."""
SOUND_MIN_SHARED: Final = 0.4
"""Words that sound alike must share this many letters too ("weather" is not "waiter")."""
MIN_LETTERS: Final = 5
"""Shorter words resemble too many others."""
MAX_LENGTH_DIFFERENCE: Final = 3

_SOUNDS: Final = str.maketrans(
    {
        "c": "k", "q": "k", "x": "k", "z": "s", "v": "f", "w": "", "h": "", "y": "i",
        "g": "j", "e": "a", "i": "a", "o": "a", "u": "a", "d": "t", "b": "p",
    }
)  # fmt: skip


class Spelling:
    """Nearest words by shared letter trigrams (Dice coefficient) or by the same sound."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        long_enough = [word for word in sorted(vocabulary) if len(word) >= MIN_LETTERS - 1]
        self._words = [(word, _trigrams(word), _sound(word)) for word in long_enough]

    def nearest(self, word: str) -> tuple[str, float]:
        """The word most like `word` and how alike they are, 0 to 1; 0 if none is like it."""
        if len(word) < MIN_LETTERS:
            return word, 0.0
        trigrams, sound = _trigrams(word), _sound(word)
        best, likeness = word, 0.0
        for known, known_trigrams, known_sound in self._words:
            if abs(len(known) - len(word)) > MAX_LENGTH_DIFFERENCE:
                continue
            shared = 2 * len(trigrams & known_trigrams) / (len(trigrams) + len(known_trigrams))
            alike = max(shared, SOUND_LIKENESS if sound == known_sound and shared >= SOUND_MIN_SHARED else 0.0)
            if alike > likeness:
                best, likeness = known, alike
        return (best, likeness) if likeness >= MIN_LIKENESS else (word, 0.0)


def _trigrams(word: str) -> frozenset[str]:
    padded = f"^{word}$"
    return frozenset(padded[start : start + 3] for start in range(len(padded) - 2))


def _sound(word: str) -> str:
    """The consonants that are told apart on a telephone, with the first vowel."""
    folded = [letter for letter, _ in groupby(word.translate(_SOUNDS))]
    return "".join(letter for place, letter in enumerate(folded) if letter != "a" or place == 0)
