"""When a turn is over, and whether a voice over the agent is an interruption.

      last speech                 asked again              endpoint
....||||||||||.........|..............|......................|
              <-stop-> prediction     prediction             reply starts
              <---------------- patience ------------------->

Two witnesses are heard: the end-of-turn model, which knows the melody, and the transcript, which knows the
words. Neither is to be trusted alone: the model took a third of the pauses inside sentences and numbers for the
end (`voxthread bench turns`), and speech-to-text puts a full stop behind "I would like to cancel because."
"""

import re
from collections.abc import Collection, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")

_FULL_STOP = re.compile(r"(?<![.\u2026])[.?!\u061f\u06d4\u0964\u3002\uff01\uff1f][\"')\]\u201d\u2019\u300d]*$")
"""A sentence ends so in most scripts. Dots that trail away are no end."""

_IN_PROGRESS = re.compile(r"\w*\d\w*(?:[-.,:]?\w*\d\w*)*|\w|(?:\w-)+\w")
"""A number, a letter, letters with hyphens between: what people dictate in groups."""

_BRIEF_WORDS = range(3, 5)
_LONGEST_PHRASE = 4
"""Words in a phrase of a word list, at most."""

_HUM = re.compile(r"[mnhu'-]*m[mnhu'-]*")
"""Lips closed: "mm-hm", however it is spelled."""


class Ending(Enum):
    """What the words so far look like at their end."""

    COMPLETE = "complete"
    """A sentence with its full stop."""
    BRIEF = "brief"
    """The same, of three or four words: fewer are an answer, so many are as often the beginning of more."""
    OPEN = "open"
    """No full stop, a comma, dots that trail away."""
    DICTATED = "dictated"
    """A number or a letter: more of them may follow."""
    DANGLING = "dangling"
    """A word that nobody stops at: "because", "my", "um". Or no word was understood at all."""


def ending(
    text: str, *, dangling: AbstractSet[str] = frozenset(), numerals: AbstractSet[str] = frozenset()
) -> Ending:
    """`dangling` are words and phrases, `numerals` words for numbers; both lower case, of one language."""
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return Ending.DANGLING
    if any(" ".join(words[-length:]) in dangling for length in range(1, min(len(words), _LONGEST_PHRASE) + 1)):
        return Ending.DANGLING
    if words[-1] in numerals or _IN_PROGRESS.fullmatch(words[-1]):
        return Ending.DICTATED
    if not _FULL_STOP.search(text.rstrip()):
        return Ending.OPEN
    return Ending.BRIEF if len(words) in _BRIEF_WORDS else Ending.COMPLETE


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPolicy:
    """Silences that end a turn. None is shorter than `complete_ms` or longer than the cap, `incomplete_ms`.

    As it stands, the end-of-turn model decides alone between the two.
    """

    endpoint_ms: int = 500
    """While the end-of-turn model has said nothing."""
    complete_ms: int = 200
    """Behind a full stop, if the model never doubted the end."""
    likely_ms: int = 0
    """Behind a full stop, if the model believes in the end by now."""
    doubted_ms: int | None = None
    """Behind a full stop, if the model does not believe in the end; None is the cap."""
    brief_ms: int = 0
    """Behind a full stop after three or four words, if the model believes in the end by now."""
    open_ms: int = 0
    """Without a full stop, if the model believes in the end. If it does not, here and below, only the cap ends
    the turn."""
    dictated_ms: int = 0
    """Behind a number or a letter."""
    dangling_ms: int = 0
    """Behind a word that nobody stops at."""
    incomplete_ms: int = 1_500
    complete_probability: float = 0.5
    """From here on the model believes in the end."""
    sure_probability: float = 0.0
    """A verdict below this, at any time in the silence, is a doubt."""
    ask_every_ms: int = 200
    """The model's verdict depends on how much silence it hears, so it is asked again as that grows."""
    dangling_words: frozenset[str] = frozenset()
    numerals: frozenset[str] = frozenset()

    def patience_ms(self, verdicts: Sequence[float], text: str | None = None) -> int:
        """How much silence ends the turn, by what the model said in it, in order, and by the words; None: they
        are not known yet."""
        if not verdicts:
            return self.endpoint_ms
        wanted_ms = self._wanted_ms(verdicts, text)
        return min(self.incomplete_ms, max(self.complete_ms, wanted_ms))

    def _wanted_ms(self, verdicts: Sequence[float], text: str | None) -> int:
        is_believed = verdicts[-1] >= self.complete_probability
        match self._ending(text):
            case Ending.COMPLETE if is_believed:
                return self.complete_ms if min(verdicts) >= self.sure_probability else self.likely_ms
            case Ending.BRIEF if is_believed:
                return self.brief_ms
            case Ending.COMPLETE | Ending.BRIEF if text is not None and self.doubted_ms is not None:
                return max(self.doubted_ms, self.brief_ms)
            case Ending.OPEN if is_believed:
                return self.open_ms
            case Ending.DICTATED if is_believed:
                return self.dictated_ms
            case Ending.DANGLING if is_believed:
                return self.dangling_ms
            case _:
                return self.incomplete_ms

    def _ending(self, text: str | None) -> Ending:
        if text is None:
            return Ending.COMPLETE
        return ending(text, dangling=self.dangling_words, numerals=self.numerals)


def means_interruption(text: str, backchannels: Collection[str]) -> bool:
    """Whether words said over the agent want the floor: anything but backchannels ("mm-hm", "right").

    `backchannels` are lower-case words and phrases; empty text (a cough, noise) wants nothing.
    """
    words = [word for word in map(str.lower, _WORD.findall(text)) if not _HUM.fullmatch(word)]
    understood = {0}  # places up to which all words are backchannels
    for start, _ in enumerate(words):
        for end in range(start + 1, min(len(words), start + _LONGEST_PHRASE) + 1):
            if start in understood and " ".join(words[start:end]) in backchannels:
                understood.add(end)
    return len(words) not in understood
