"""Small language models loop: they say a sentence, and then the same sentence again, for ever.

The caller must not hear the second one, so text is held back while it could still become a sentence that
was said before. That is nothing at all in the first sentence, and a word or two in the others.
"""

import re

_END = re.compile(r"[.!?…。]+[\"')\]]*(?=\s)|\n")
_SHORT_WORDS = 3
"""Sentences of fewer words ("Yes, please.") are repeated by people too."""


class RepetitionGuard:
    """Feed it deltas, speak what it returns, and stop the model once it is `looping`."""

    __slots__ = ("_released", "_said", "_sentence", "looping")

    def __init__(self) -> None:
        self._said: set[str] = set()
        self._sentence = ""
        self._released = 0
        self.looping = False

    def feed(self, delta: str) -> str:
        """What of the text so far may be spoken now and was not returned before."""
        if self.looping:
            return ""
        self._sentence += delta
        spoken = ""
        while (end := _END.search(self._sentence)) is not None:
            sentence, rest = self._sentence[: end.end()], self._sentence[end.end() :]
            if _key(sentence) in self._said:
                self.looping = True
                return spoken
            if len(sentence.split()) >= _SHORT_WORDS:
                self._said.add(_key(sentence))
            spoken += sentence[self._released :]
            self._sentence, self._released = rest, 0
        return spoken + self._release()

    def finish(self) -> str:
        """The rest, when the model has stopped by itself."""
        if self.looping or _key(self._sentence) in self._said:
            return ""
        return self._sentence[self._released :]

    def _release(self) -> str:
        begun = _key(self._sentence)
        if any(said.startswith(begun) for said in self._said):
            return ""
        released, self._released = self._sentence[self._released :], len(self._sentence)
        return released


def _key(sentence: str) -> str:
    """Letters and digits only: the key of a sentence begins with the keys of all its beginnings."""
    return "".join(filter(str.isalnum, sentence)).casefold()
