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

_QUESTION_MARKS = "?\u061f\uff1f"
_FULL_STOP = re.compile(
    rf"(?<![.\u2026])([.!\u06d4\u0964\u3002\uff01{_QUESTION_MARKS}])[\"')\]\u201d\u2019\u300d]*$"
)
"""A sentence ends so in most scripts. Dots that trail away are no end."""

_IN_PROGRESS = re.compile(r"\w*\d\w*(?:[-.,:]?\w*\d\w*)*|\w|(?:\w-)+\w")
"""A number, a letter, letters with hyphens between: what people dictate in groups."""

_BRIEF_STATEMENT = range(3, 5)
"""Words; fewer are an answer."""
_BRIEF_QUESTION = range(2, 5)
_LONGEST_PHRASE = 4
"""Words in a phrase of a word list, at most."""

_HUM = re.compile(r"[mnhu'-]*m[mnhu'-]*|[^\W_]?[ua]h-[^\W_][ua]h")
"""Lips closed, "mm-hm" however it is spelled, or open, "uh-huh" however it is heard; "uh-uh" is a no."""


class Ending(Enum):
    """What the words so far look like at their end."""

    QUESTION = "question"
    """A sentence with its question mark: whoever asks stops there more often than whoever tells. Or one that
    begins in lower case: such texts have full stops where others have question marks."""
    STATEMENT = "statement"
    """A sentence with its full stop."""
    BRIEF_QUESTION = "brief question"
    BRIEF_STATEMENT = "brief statement"
    """The same, of so few words that they are as often the beginning of more."""
    OPEN = "open"
    """No full stop, a comma, dots that trail away."""
    DICTATED = "dictated"
    """A number or a letter, and no question: more of them may follow."""
    DANGLING = "dangling"
    """A word that nobody stops at: "because", "my", "um". Or no word was understood at all."""


def ending(
    text: str,
    *,
    dangling: AbstractSet[str] = frozenset(),
    question_ends: AbstractSet[str] = frozenset(),
    numerals: AbstractSet[str] = frozenset(),
) -> Ending:
    """`dangling` are words and phrases, of which the words `question_ends` may end a question, `numerals` words
    for numbers; all lower case, of one language."""
    words = [word.lower() for word in _WORD.findall(text)]
    if not words:
        return Ending.DANGLING
    full_stop = _FULL_STOP.search(text.rstrip())
    is_question = full_stop is not None and full_stop[1] in _QUESTION_MARKS
    tails = (" ".join(words[-length:]) for length in range(1, min(len(words), _LONGEST_PHRASE) + 1))
    if not (is_question and words[-1] in question_ends) and any(tail in dangling for tail in tails):
        return Ending.DANGLING
    if not is_question and (words[-1] in numerals or _IN_PROGRESS.fullmatch(words[-1])):
        return Ending.DICTATED
    if full_stop is None:
        return Ending.OPEN
    if is_question or text.lstrip()[0].islower():
        return Ending.BRIEF_QUESTION if len(words) in _BRIEF_QUESTION else Ending.QUESTION
    return Ending.BRIEF_STATEMENT if len(words) in _BRIEF_STATEMENT else Ending.STATEMENT


_SENTENCES = frozenset(
    {Ending.QUESTION, Ending.STATEMENT, Ending.BRIEF_QUESTION, Ending.BRIEF_STATEMENT},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPolicy:
    """Silences that end a turn. None is shorter than `complete_ms` or longer than the cap, `incomplete_ms`.

    As it stands, the end-of-turn model decides alone between the two.
    """

    endpoint_ms: int = 500
    """While the end-of-turn model has said nothing."""
    complete_ms: int = 200
    """Behind a question mark, if the model was sure of the end all along."""
    settled_ms: int = 0
    """Behind a question mark, if the model is sure by now and never disbelieved."""
    statement_ms: int = 0
    """Behind another full stop, if the model was sure of the end all along."""
    likely_ms: int = 0
    """Behind any full stop, if the model believes in the end by now."""
    doubted_ms: int | None = None
    """Behind any full stop, if the model does not believe in the end; None is the cap."""
    brief_ms: int = 0
    """Behind any full stop after so few words, if the model believes in the end by now."""
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
    """From here on the model is sure of the end."""
    ask_every_ms: int = 200
    """The model's verdict depends on how much silence it hears, so it is asked again as that grows."""
    dangling_words: frozenset[str] = frozenset()
    question_ends: frozenset[str] = frozenset()
    numerals: frozenset[str] = frozenset()

    def patience_ms(self, verdicts: Sequence[float], text: str | None = None) -> int:
        """How much silence ends the turn, by what the model said in it, in order, and by the words; None: they
        are not known yet."""
        if not verdicts:
            return self.endpoint_ms
        wanted_ms = self._wanted_ms(verdicts, text)
        return min(self.incomplete_ms, max(self.complete_ms, wanted_ms))

    def _wanted_ms(self, verdicts: Sequence[float], text: str | None) -> int:
        how_it_ends = self._ending(text)
        if verdicts[-1] < self.complete_probability:
            is_sentence = text is not None and how_it_ends in _SENTENCES
            return self.incomplete_ms if self.doubted_ms is None or not is_sentence else self.doubted_ms
        was_always_sure = min(verdicts) >= self.sure_probability
        never_disbelieved = min(verdicts) >= self.complete_probability
        is_sure = verdicts[-1] >= self.sure_probability and never_disbelieved
        match how_it_ends:
            case Ending.QUESTION | Ending.BRIEF_QUESTION if was_always_sure:
                return self.complete_ms
            case Ending.QUESTION if is_sure:
                return self.settled_ms
            case Ending.STATEMENT if was_always_sure:
                return self.statement_ms
            case Ending.QUESTION | Ending.STATEMENT:
                return self.likely_ms
            case Ending.BRIEF_QUESTION | Ending.BRIEF_STATEMENT:
                return self.brief_ms
            case Ending.OPEN:
                return self.open_ms
            case Ending.DICTATED:
                return self.dictated_ms
            case Ending.DANGLING:
                return self.dangling_ms

    def _ending(self, text: str | None) -> Ending:
        if text is None:
            return Ending.QUESTION
        return ending(
            text, dangling=self.dangling_words, question_ends=self.question_ends, numerals=self.numerals
        )


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
