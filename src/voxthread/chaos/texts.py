"""Are words missing, was a sentence said twice? Pure."""

import re
from collections import Counter
from difflib import SequenceMatcher

_WORD = re.compile(r"[\w']+")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def words_of(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


def words_missing(expected: str, said: str) -> int:
    """How many words of `expected` are not in `said`, in their order."""
    wanted, found = words_of(expected), words_of(said)
    matcher = SequenceMatcher(None, wanted, found, autojunk=False)
    return len(wanted) - sum(block.size for block in matcher.get_matching_blocks())


def sentences_of(text: str) -> list[str]:
    """Without marks and capitals, so that the same sentence is the same text."""
    spoken = (" ".join(words_of(sentence)) for sentence in _SENTENCE_END.split(text))
    return [sentence for sentence in spoken if sentence]


def sentences_repeated(expected: str, said: str) -> int:
    """How many sentences of `said` were said before in it, and not as often in `expected`."""
    allowed, found = Counter(sentences_of(expected)), Counter(sentences_of(said))
    return sum(max(0, times - max(1, allowed[sentence])) for sentence, times in found.items())
