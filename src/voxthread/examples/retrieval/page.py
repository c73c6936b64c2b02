"""A page of facts: a Markdown file in which every level-three heading is one fact."""

from collections.abc import Iterator
from dataclasses import dataclass

ALSO = "Also:"


@dataclass(frozen=True, slots=True)
class Fact:
    """What the page says of one subject."""

    title: str
    text: str
    """Spoken word for word."""
    also: str
    """Other words for the subject; searched, never spoken."""


def parse_page(markdown: str) -> list[Fact]:
    """The facts of a page, in its order. A heading without text below it is no fact."""
    return [fact for fact in _sections(markdown) if fact.text]


def _sections(markdown: str) -> Iterator[Fact]:
    for section in _split(markdown):
        title, *lines = section
        also = [line.removeprefix(ALSO) for line in lines if line.startswith(ALSO)]
        text = [line for line in lines if not line.startswith(ALSO)]
        yield Fact(title, " ".join(text), " ".join(also).strip())


def _split(markdown: str) -> Iterator[list[str]]:
    """The lines of each fact, its title first."""
    section: list[str] | None = None
    for line in map(str.strip, markdown.splitlines()):
        if line.startswith("#"):
            if section is not None:
                yield section
            section = [line.lstrip("# ")] if line.startswith("### ") else None
        elif section is not None and line:
            section.append(line)
    if section is not None:
        yield section
