"""Language models write for the eye; a voice needs the text without the marks."""

import unicodedata
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

_MARKS: Final = frozenset("*_`#~|<>[]{}\\^")
_UNSPEAKABLE: Final = frozenset({"So", "Sk", "Cs", "Co", "Cn", "Cf", "Cc"})
"""Unicode categories of pictures, modifiers of pictures, joiners and controls."""
_VARIATION_SELECTORS: Final = range(0xFE00, 0xFE10)


async def speakable(chunks: AsyncIterator[str]) -> AsyncGenerator[str, None]:
    """The stream without Markdown, emoji and line breaks, chunk by chunk as it comes.

    Closing it closes `chunks`.
    """
    before = " "
    try:
        async for chunk in chunks:
            text = clean(chunk, before)
            if text:
                before = text[-1]
                yield text
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def clean(text: str, before: str = " ") -> str:
    """What of `text` can be spoken, after a text that ends in `before`: no doubled spaces, no list dashes."""
    out: list[str] = []
    for character in text:
        spoken = " " if character.isspace() else character
        if (
            spoken in _MARKS
            or unicodedata.category(spoken) in _UNSPEAKABLE
            or ord(spoken) in _VARIATION_SELECTORS
        ):
            continue
        if before == " " and spoken in " -\u2013\u2022":
            continue
        out.append(spoken)
        before = spoken
    return "".join(out)
