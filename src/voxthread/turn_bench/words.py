"""Counting words: texts made comparable, word errors, and whether what was said twice was heard twice."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_NUMBERS = {
    **{word: str(value) for value, word in enumerate(_UNITS)},
    **{word: str(value) for value, word in enumerate(_TEENS, 10)},
    **{word: str(value) for value, word in zip(range(20, 100, 10), _TENS, strict=True)},
}
_ORDINALS = {
    "first": "1",
    "second": "2",
    "third": "3",
    "fifth": "5",
    "eighth": "8",
    "ninth": "9",
    "twelfth": "12",
    "twentieth": "20",
    "thirtieth": "30",
    **{f"{word}th": value for word, value in _NUMBERS.items()},
}
_TOKEN = re.compile(r"\d+|[a-z]+(?:'[a-z]+)?")
_SUFFIX = re.compile(r"(?<=\d)(?:st|nd|rd|th)\b")
_FILLERS = frozenset({"um", "umm", "uh", "uhh", "hm", "hmm", "er", "erm", "ah"})


def plain_words(text: str) -> list[str]:
    """Lower case without punctuation and fillers; a number is its digits, one by one, letters spelled a word.

    "My number is 555-01, S-M-I" and "my number is five five five oh one s m i" are the same.
    """
    tokens = _TOKEN.findall(_SUFFIX.sub("", text.lower()))
    return _joined_letters(_as_digits([token for token in tokens if token not in _FILLERS]))


def _as_digits(tokens: Sequence[str]) -> list[str]:
    digits: list[str] = []
    tens = False
    for token in tokens:
        value = token if token.isdigit() else _NUMBERS.get(token) or _ORDINALS.get(token)
        if token in {"oh", "o"} and digits and digits[-1].isdigit():
            value = "0"
        if value is None:
            digits.append(token)
        elif tens and len(value) == 1 and value != "0" and not token.isdigit():
            digits[-1] = value  # "twenty", "three"
        else:
            digits += value
        tens = token in _TENS
    return digits


def _joined_letters(tokens: Sequence[str]) -> list[str]:
    words: list[str] = []
    was_letter = False
    for token in tokens:
        is_letter = len(token) == 1 and token.isalpha()
        if is_letter and was_letter:
            words[-1] += token
        else:
            words.append(token)
        was_letter = is_letter
    return words


@dataclass(frozen=True, slots=True)
class WordErrors:
    errors: int
    words: int

    @property
    def rate(self) -> float:
        return self.errors / self.words if self.words else 0.0


def word_errors(pairs: Sequence[tuple[str, str]]) -> WordErrors:
    """Of (said, heard) texts, over all of them together."""
    errors = words = 0
    for said, heard in pairs:
        truth = plain_words(said)
        errors += _distance(truth, plain_words(heard))
        words += len(truth)
    return WordErrors(errors, words)


def _distance(truth: Sequence[str], heard: Sequence[str]) -> int:
    """Substitutions, deletions and insertions at least (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for place, word in enumerate(truth, 1):
        diagonal, row[0] = row[0], place
        for column, other in enumerate(heard, 1):
            diagonal, row[column] = (
                row[column],
                min(row[column] + 1, row[column - 1] + 1, diagonal + (word != other)),
            )
    return row[-1]


def repeats(text: str) -> Counter[str]:
    """How often each word of the text that is said twice in a row is said in all."""
    words = plain_words(text)
    doubled = {word for word, following in itertools.pairwise(words) if word == following}
    return Counter(word for word in words if word in doubled)


def drops_repeats(said: str, heard: str, reference: str) -> bool:
    """Whether a word said twice in a row is heard less often than the reference transcript has it."""
    heard_words, reference_words = Counter(plain_words(heard)), Counter(plain_words(reference))
    return any(heard_words[word] < min(count, reference_words[word]) for word, count in repeats(said).items())
