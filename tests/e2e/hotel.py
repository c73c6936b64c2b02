"""The questions for the hotel, and what makes an answer right."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_QUESTIONS = Path(__file__).parents[1] / "data" / "hotel_questions.json"
_UNKNOWN = ("I do not know",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    text: str
    expected: tuple[str, ...]
    """Regular expressions that all match in a right answer."""

    def is_answered_by(self, reply: str) -> bool:
        return all(re.search(pattern, reply) for pattern in self.expected)


def questions(kind: str) -> list[Question]:
    """`published`, `paraphrases` or `unanswerable`, which are answered by not knowing."""
    return [
        Question(text=each["question"], expected=tuple(each.get("expect", _UNKNOWN)))
        for each in json.loads(_QUESTIONS.read_text())[kind]
    ]
