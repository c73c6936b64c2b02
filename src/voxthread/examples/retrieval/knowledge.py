"""Answers from a page of facts that may be edited while calls are on."""

from collections.abc import Sequence
from pathlib import Path

from voxthread.core.failures import AgentError
from voxthread.examples.retrieval.language import Language, Weight
from voxthread.examples.retrieval.page import parse_page
from voxthread.examples.retrieval.ranking import FactIndex, Match
from voxthread.observability.logs import get_logger

_log = get_logger(__name__)

MAX_FACTS = 2
"""How many questions of one utterance are answered."""


class Knowledge:
    """A page of facts, kept as fresh as its file. Raises `AgentError` if the page cannot be read at first."""

    def __init__(self, page: Path, language: Language) -> None:
        self._page = page
        self._language = language
        self._stamp = _stamp(page)
        self._index = self._read()

    def refresh(self) -> None:
        """Read the page again if its file changed; a page that cannot be read leaves the facts as they are.

        Touches the disk: for a thread.
        """
        try:
            stamp = _stamp(self._page)
            if stamp == self._stamp:
                return
            self._index = self._read()
        except AgentError as error:
            _log.warning("knowledge.page_unreadable", code=error.code, detail=error.detail)
            return
        self._stamp = stamp
        _log.info("knowledge.page_read", page=self._page.name)

    def answers(self, utterance: str, previous: str = "") -> list[str]:
        """What to say to an utterance: facts of the page, or that the page does not say.

        `previous` is what the caller asked before; a question that leans on it ("and on Sundays?") is read
        with it.
        """
        found, missed = self._each_question(utterance)
        if found:
            facts = list(dict.fromkeys(match.fact.text for match in found))[:MAX_FACTS]
            return [*facts, self._language.replies.unknown_rest] if missed else facts
        match = (
            self._match(utterance) or self._in_context(utterance, previous) or self._last_question(utterance)
        )
        return [match.fact.text if match else self._language.replies.unknown]

    def mentions(self, text: str) -> bool:
        """Whether a text may state anything that is for the page to state."""
        return any(
            self._language.claims(term) or (term.weight is not Weight.LIGHT and self._index.knows(term.stem))
            for term in self._language.terms(text)
        )

    def _each_question(self, utterance: str) -> tuple[list[Match], bool]:
        """The answers to the questions in an utterance that name their subject, and whether one has none."""
        found: list[Match] = []
        missed = False
        for question in filter(self._has_subject, self._language.questions(utterance)):
            match = self._match(question)
            if match:
                found.append(match)
            elif self._language.starts_question(question):
                missed = True
        return found, missed

    def _last_question(self, utterance: str) -> Match | None:
        """The answer to what is asked at the end, even in few words ("We are from Canada. How can we pay?")."""
        return self._match(self._language.questions(utterance)[-1])

    def _in_context(self, utterance: str, previous: str) -> Match | None:
        """The answer to a question that is about the previous one's subject."""
        if not previous or (self._has_subject(utterance) and not self._language.follows_up(utterance)):
            return None
        return self._match(f"{previous} {utterance}")

    def _match(self, text: str) -> Match | None:
        return self._index.answer(self._language.terms(text))

    def _has_subject(self, text: str) -> bool:
        return any(term.weight is Weight.SUBJECT for term in self._language.terms(text))

    def _read(self) -> FactIndex:
        try:
            facts = parse_page(self._page.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise AgentError("agent.page_unreadable", f"{self._page}: {error}") from error
        if not facts:
            raise AgentError("agent.page_empty", f"{self._page} has no '### ' heading with text below it")
        return FactIndex(facts, self._language)


def _stamp(page: Path) -> Sequence[int]:
    """Changes whenever the file does."""
    try:
        status = page.stat()
    except OSError as error:
        raise AgentError("agent.page_unreadable", f"{page}: {error}") from error
    return status.st_mtime_ns, status.st_size, status.st_ino
