"""Which fact of a page answers a question, and whether any does.

Facts are ranked with BM25 (Robertson and Zaragoza, 2009) over stems. A word the page does not have is read
as the page's word it most resembles in letters or in sound, if any, because speech recognition mishears.
The best fact answers only if it covers enough of the question: of its subject words, each weighing its
inverse document frequency on the page, and an unknown word a fixed amount. That share is between 0 and 1
whatever the page or the question, so one threshold serves.
"""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import bm25s
import numpy as np

from voxthread.examples.retrieval.language import Language, Term, Weight
from voxthread.examples.retrieval.page import Fact
from voxthread.examples.retrieval.spelling import Spelling

ANSWER_COVERAGE: Final = 0.6
"""A fact that covers less of a question does not answer it: one word it has and one unknown are not enough,
unless a cue such as "how much" fits the fact as well."""
UNKNOWN_WEIGHT: Final = 0.7
"""Of a subject word that the page does not have; the page's rarest words have 1."""
SOFT_WEIGHT: Final = 0.3
CUE_BONUS: Final = 0.15
"""What each light word adds that the fact is known by: asked for a price, a fact with a price covers more."""
MAX_CUES: Final = 2
LIGHT_BOOST: Final = 0.5
"""How much a light word counts in the ranking."""
JOIN_LIKENESS: Final = 0.7
"""Two words are read as one when they are more like it than this."""
TEXT_CREDIT: Final = 0.5
"""What a word counts that a fact only happens to contain, and is not titled or also known by."""
CONSIDERED: Final = 5
"""How many of the best-ranked facts may answer."""


@dataclass(frozen=True, slots=True)
class Match:
    """A fact that answers a question."""

    fact: Fact
    score: float
    coverage: float
    """Of the question's subject, 0 to 1."""


class FactIndex:
    """The facts of a page, searchable."""

    def __init__(self, facts: Sequence[Fact], language: Language) -> None:
        self._facts = list(facts)
        self._language = language
        names = [_stems(language, f"{fact.title} {fact.also}") for fact in facts]
        texts = [_stems(language, fact.text) for fact in facts]
        self._credits = [
            dict.fromkeys(text, TEXT_CREDIT) | dict.fromkeys(name, 1.0)
            for name, text in zip(names, texts, strict=True)
        ]
        counts = Counter(stem for credits in self._credits for stem in credits)
        self._weights = {stem: _rarity(count, len(facts)) for stem, count in counts.items()}
        subjects = [term for fact in facts for term in language.terms(f"{fact.title} {fact.also}")]
        self._spelling = Spelling({term.stem for term in subjects if term.weight is Weight.SUBJECT})
        self._bm25 = bm25s.BM25(method="lucene", k1=1.2, b=0.3)
        titles = [_stems(language, fact.title) for fact in facts]
        documents = [title + name + text for title, name, text in zip(titles, names, texts, strict=True)]
        self._bm25.index(documents, show_progress=False)

    def knows(self, stem: str) -> bool:
        return stem in self._weights

    def answer(self, terms: Sequence[Term]) -> Match | None:
        """The fact that answers a question of these terms; None if the page does not say."""
        read = list(dict.fromkeys(self._read_all(terms)))
        if not any(word.weight and word.likeness for word in read):
            return None
        scores = self._scores(read)
        for place in np.argsort(-scores, kind="stable")[:CONSIDERED]:
            coverage = _coverage(read, self._credits[place])
            if coverage >= ANSWER_COVERAGE:
                return Match(self._facts[place], float(scores[place]), coverage)
        return None

    def _read_all(self, terms: Sequence[Term]) -> Iterator["_Word"]:
        """The terms as words of the page; two that are heard apart may be one ("break fast")."""
        place = 0
        while place < len(terms):
            word = self._read(terms[place])
            pair = "".join(term.stem for term in terms[place : place + 2])
            whole, likeness = self._spelling.nearest(pair) if place + 1 < len(terms) else (pair, 0.0)
            joined = likeness > JOIN_LIKENESS and not self.knows(terms[place].stem)
            yield _Word(whole, UNKNOWN_WEIGHT, likeness) if joined else word
            place += 2 if joined else 1

    def _read(self, term: Term) -> "_Word":
        """A term of the question as a word of the page."""
        match term.weight:
            case Weight.LIGHT:
                return _Word(term.stem, 0.0, float(self.knows(term.stem)))
            case Weight.SOFT:
                return _Word(term.stem, SOFT_WEIGHT, float(self.knows(term.stem)))
            case Weight.SUBJECT if self.knows(term.stem):
                return _Word(term.stem, self._weights[term.stem], 1.0)
            case Weight.SUBJECT:
                stem, likeness = self._spelling.nearest(term.stem)
                return _Word(stem, UNKNOWN_WEIGHT, likeness)

    def _scores(self, read: Sequence["_Word"]) -> np.ndarray:
        total = np.zeros(len(self._facts))
        for word in read:
            if word.likeness:
                factor = word.likeness if word.weight else LIGHT_BOOST
                total += factor * self._bm25.get_scores([word.stem])
        return total


@dataclass(frozen=True, slots=True)
class _Word:
    """A word of the question, read as one of the page."""

    stem: str
    weight: float
    """In the question's subject; a light word has none."""
    likeness: float
    """1 if the page has the word, less if it has one like it, 0 if neither."""


def _rarity(count: int, facts: int) -> float:
    """Inverse document frequency (of BM25) of a word that `count` of the facts have, 1 for the rarest."""
    return math.log(1 + (facts - count + 0.5) / (count + 0.5)) / math.log(1 + (facts - 0.5) / 1.5)


def _stems(language: Language, text: str) -> list[str]:
    return [term.stem for term in language.terms(text)]


def _coverage(read: Sequence[_Word], credits: Mapping[str, float]) -> float:
    covered = sum(word.likeness * word.weight * credits.get(word.stem, 0.0) for word in read)
    cues = sum(not word.weight and credits.get(word.stem) == 1.0 for word in read)
    bonus = CUE_BONUS * min(cues, MAX_CUES)
    return (covered + bonus) / (sum(word.weight for word in read) + bonus)
