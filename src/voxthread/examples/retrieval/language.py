"""How a language's words become the terms that facts are ranked by. Everything English is in `english.toml`."""

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

import Stemmer

_WORD: Final = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
_POSSESSIVE: Final = re.compile(r"'s$")
_SENTENCE_END: Final = re.compile(r"[.?!;]+(?=\s|$)")


class Weight(Enum):
    """What a term says about the subject of a question."""

    LIGHT = "light"
    """Chooses between facts, but is no subject: "when", "price", "hotel"."""
    SOFT = "soft"
    """A subject for want of a better one: "pay", "leave", "food"."""
    SUBJECT = "subject"


@dataclass(frozen=True, slots=True)
class Term:
    """A stem to rank by."""

    stem: str
    weight: Weight


@dataclass(frozen=True, slots=True)
class SmallTalk:
    """One kind of chat: what starts it, and what may always be said to it."""

    cues: tuple[str, ...]
    line: str


@dataclass(frozen=True, slots=True)
class Replies:
    """What is said when no fact is."""

    unknown: str
    unknown_rest: str
    unheard: str


def words(text: str) -> list[str]:
    """Lower-case words without accents or apostrophes; hyphens and points separate ("p.m." is two words)."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", text.lower()) if not unicodedata.combining(c))
    return [_POSSESSIVE.sub("", word.replace("\u2019", "'")).replace("'", "") for word in _WORD.findall(plain)]


class Language:
    """The words of one language, read from a TOML file."""

    def __init__(self, path: Path) -> None:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        self._stem = Stemmer.Stemmer(data["stemmer"]).stemWord
        self._stop = frozenset(data["words"]["stop"].split())
        self._synonyms: dict[str, str] = {
            self._stem(word): self._stem(canonical)
            for canonical, group in data["synonyms"].items()
            for word in group.split()
        }
        self._phrases = {tuple(words(key)): value.split() for key, value in data["phrases"].items()}
        self._longest_phrase = max(map(len, self._phrases), default=0)
        self._light = frozenset(self._canonical(word) for word in data["words"]["light"].split())
        self._soft = frozenset(self._canonical(word) for word in data["words"]["soft"].split())
        self._claims = frozenset(self._canonical(word) for word in data["words"]["claims"].split())
        questions = data["questions"]
        self._separators = frozenset(questions["separators"].split())
        self._starts = frozenset(questions["starts"].split())
        self._follow_ups = _phrase_list(questions["follow_ups"])
        self.small_talk = {
            kind: SmallTalk(_phrase_list(entry["cues"]), entry["line"])
            for kind, entry in data["small_talk"].items()
        }
        self.replies = Replies(**data["replies"])

    def terms(self, text: str) -> list[Term]:
        """The terms of a text, in order, stop words left out."""
        return [
            Term(stem, self._weight(stem))
            for word in self._joined(words(text))
            if word not in self._stop
            for stem in [self._canonical(word)]
        ]

    def claims(self, term: Term) -> bool:
        """Whether a term states something of any subject: a price, a number, a permission."""
        return term.stem in self._claims or term.stem.isdigit()

    def questions(self, text: str) -> list[str]:
        """The parts of an utterance that may each be a question, statements left out where one part asks.

        A part joined to a question by "and" asks too.
        """
        parts: list[tuple[str, bool]] = []
        for sentence in _SENTENCE_END.split(text):
            asks = False
            for part in self._split_at_separators(sentence.split()):
                asks = asks or self.starts_question(part)
                parts.append((part, asks))
        asked = [part for part, asks in parts if asks]
        return asked or [part for part, _ in parts]

    def starts_question(self, text: str) -> bool:
        return any(word in self._starts for word in words(text)[:2])

    def follows_up(self, text: str) -> bool:
        """Whether the utterance begins as one that leans on the question before it ("and on Sundays?")."""
        said = " ".join(words(text)) + " "
        return any(said.startswith(cue + " ") for cue in self._follow_ups)

    def chat_kind(self, text: str) -> str | None:
        """The kind of small talk that an utterance is, if it is nothing else."""
        rest = f" {' '.join(words(text))} "
        kind = None
        cues = [(cue, name) for name, talk in self.small_talk.items() for cue in talk.cues]
        for cue, name in sorted(cues, key=lambda pair: -len(pair[0])):
            if f" {cue} " in rest:
                rest = rest.replace(f" {cue} ", " ")
                kind = kind if kind is not None else name
        return kind if kind is not None and not self.terms(rest) else None

    def _weight(self, stem: str) -> Weight:
        if stem in self._light or stem.isdigit():
            return Weight.LIGHT
        return Weight.SOFT if stem in self._soft else Weight.SUBJECT

    def _split_at_separators(self, spoken: Sequence[str]) -> Iterable[str]:
        start = 0
        for position, word in enumerate(spoken):
            if word.lower().strip(",") in self._separators:
                yield " ".join(spoken[start:position])
                start = position + 1
        yield " ".join(spoken[start:])

    def _joined(self, spoken: Sequence[str]) -> list[str]:
        """The words with every phrase of the language replaced, longest first."""
        out: list[str] = []
        position = 0
        while position < len(spoken):
            for length in range(min(self._longest_phrase, len(spoken) - position), 0, -1):
                replacement = self._phrases.get(tuple(spoken[position : position + length]))
                if replacement is not None:
                    out += replacement
                    position += length
                    break
            else:
                out.append(spoken[position])
                position += 1
        return out

    def _canonical(self, word: str) -> str:
        stem: str = self._stem(word)
        return self._synonyms.get(stem, stem)


def _phrase_list(text: str) -> tuple[str, ...]:
    return tuple(" ".join(words(cue)) for cue in text.split("|"))
