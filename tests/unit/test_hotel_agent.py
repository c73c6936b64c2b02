"""The hotel's front desk: right about what its page says, silent about the rest."""

import json
import re
import shutil
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from voxthread.agent import LanguageModel, Message, load_agent
from voxthread.core.failures import AgentError
from voxthread.examples import hotel
from voxthread.examples.hotel import ENGLISH, PAGE, Hotel
from voxthread.examples.retrieval.language import Language

pytestmark = pytest.mark.unit

QUESTIONS = json.loads((Path(__file__).parents[1] / "data" / "hotel_questions.json").read_text())
ENGLISH_WORDS = Language(ENGLISH)
UNKNOWN = ENGLISH_WORDS.replies.unknown


class SayingModel(LanguageModel):
    """Streams one text, letter by letter, and remembers what it was asked and whether it was stopped."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.asked: list[Sequence[Message]] = []
        self.stopped_after: int | None = None

    async def reply(self, messages: Sequence[Message]) -> AsyncIterator[str]:
        self.asked.append(messages)
        said = 0
        try:
            for letter in self.text:
                said += 1
                yield letter
        finally:
            self.stopped_after = said

    async def prefill(self, messages: Sequence[Message]) -> None:
        pass


@pytest.fixture(scope="module")
def front_desk() -> Hotel:
    return Hotel(SayingModel(), PAGE, ENGLISH_WORDS)


async def ask(desk: Hotel, utterance: str, before: Sequence[str] = ()) -> str:
    history = [Message(role="user", text=text) for text in before]
    return "".join([chunk async for chunk in desk.reply(history, utterance)])


async def wrong_answers(desk: Hotel, kind: str) -> list[tuple[str, str]]:
    """The questions of a kind that are answered wrongly, each with its answer."""
    answers = [(entry, await ask(desk, entry["question"])) for entry in QUESTIONS[kind]]
    return [(entry["question"], answer) for entry, answer in answers if not _is_right(entry, answer)]


def _is_right(entry: dict[str, list[str]], answer: str) -> bool:
    return all(re.search(pattern, answer) for pattern in entry.get("expect", [re.escape(UNKNOWN)]))


@pytest.mark.anyio
async def test_page_published_questions_are_all_right(front_desk: Hotel) -> None:
    assert len(QUESTIONS["published"]) == 10
    assert await wrong_answers(front_desk, "published") == []


@pytest.mark.anyio
async def test_page_paraphrases_are_right(front_desk: Hotel) -> None:
    assert len(QUESTIONS["paraphrases"]) == 20
    assert await wrong_answers(front_desk, "paraphrases") == []


@pytest.mark.anyio
async def test_page_unanswerable_questions_are_refused(front_desk: Hotel) -> None:
    assert len(QUESTIONS["unanswerable"]) == 5
    assert await wrong_answers(front_desk, "unanswerable") == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("kind", "allowed"), [("more_paraphrases", 2), ("other_facts", 4), ("off_page", 1)], ids=str
)
async def test_page_wider_questions_are_nearly_all_right(front_desk: Hotel, kind: str, allowed: int) -> None:
    wrong = await wrong_answers(front_desk, kind)
    assert len(wrong) <= allowed, wrong


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("heard", "expected"),
    [
        ("what time is checking", "three in the afternoon"),
        ("Is the why fi free?", "Wi-Fi is free"),
        ("is the wi fi free", "Wi-Fi is free"),
        ("Um, well, what time, uh, is breakfast please?", "half past six"),
        ("When is break fast served?", "half past six"),
        ("do you have a restarant", "dinner from six"),
    ],
)
async def test_page_misheard_question_is_answered(front_desk: Hotel, heard: str, expected: str) -> None:
    assert expected in await ask(front_desk, heard)


@pytest.mark.anyio
async def test_page_two_questions_at_once_get_two_facts(front_desk: Hotel) -> None:
    answer = await ask(front_desk, "When is breakfast and how much is parking?")
    assert "half past six" in answer
    assert "eighteen euros" in answer


@pytest.mark.anyio
async def test_page_one_of_two_questions_unknown_says_which_it_knows(front_desk: Hotel) -> None:
    answer = await ask(front_desk, "When is breakfast and do you have a casino?")
    assert "half past six" in answer
    assert answer.endswith(ENGLISH_WORDS.replies.unknown_rest)


@pytest.mark.anyio
async def test_question_before_follow_up_is_read_with_it(front_desk: Hotel) -> None:
    assert "eleven at weekends" in await ask(front_desk, "And on Sundays?", before=["When is breakfast?"])
    assert "eighteen euros" in await ask(front_desk, "How much is it?", before=["Do you have a garage?"])


@pytest.mark.anyio
async def test_no_question_before_follow_up_is_refused(front_desk: Hotel) -> None:
    assert await ask(front_desk, "How much is it?") == UNKNOWN


@pytest.mark.anyio
@pytest.mark.parametrize("noise", ["", " ", "...", "?!"])
async def test_any_state_empty_utterance_asks_to_repeat(front_desk: Hotel, noise: str) -> None:
    assert await ask(front_desk, noise) == ENGLISH_WORDS.replies.unheard


@pytest.mark.anyio
async def test_page_fact_changed_next_answer_follows(tmp_path: Path) -> None:
    page = tmp_path / "hotel.md"
    shutil.copy(PAGE, page)
    desk = Hotel(SayingModel(), page, ENGLISH_WORDS)
    assert "eighteen euros" in await ask(desk, "How much is parking?")
    page.write_text(
        page.read_text().replace("eighteen euros a night. The entrance", "two euros an hour. The entrance")
    )
    assert "two euros an hour" in await ask(desk, "How much is parking?")


@pytest.mark.anyio
async def test_page_fact_added_is_known(tmp_path: Path) -> None:
    page = tmp_path / "hotel.md"
    shutil.copy(PAGE, page)
    desk = Hotel(SayingModel(), page, ENGLISH_WORDS)
    assert await ask(desk, "Do you have a tennis court?") == UNKNOWN
    page.write_text(page.read_text() + "\n### Tennis\n\nThe tennis court is behind the hotel.\n")
    assert await ask(desk, "Do you have a tennis court?") == "The tennis court is behind the hotel."


@pytest.mark.anyio
async def test_page_deleted_facts_stay(tmp_path: Path) -> None:
    page = tmp_path / "hotel.md"
    shutil.copy(PAGE, page)
    desk = Hotel(SayingModel(), page, ENGLISH_WORDS)
    page.unlink()
    assert "three in the afternoon" in await ask(desk, "What time is check-in?")


def test_no_page_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="page_unreadable"):
        Hotel(SayingModel(), tmp_path / "none.md", ENGLISH_WORDS)


def test_page_without_facts_start_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.md").write_text("# Hotel\n\n### A heading alone\n")
    with pytest.raises(AgentError, match="page_empty"):
        Hotel(SayingModel(), tmp_path / "empty.md", ENGLISH_WORDS)


@pytest.mark.anyio
async def test_small_talk_model_speaks_its_first_sentence_only() -> None:
    llm = SayingModel("Lovely to hear from you! Let me tell you more and more and more.")
    assert await ask(Hotel(llm, PAGE, ENGLISH_WORDS), "Good morning!") == "Lovely to hear from you!"
    assert llm.stopped_after is not None
    assert llm.stopped_after < len(llm.text)


@pytest.mark.anyio
@pytest.mark.parametrize(
    "claim",
    [
        "Check-in is at noon.",
        "Hello, breakfast is served all day!",
        "It costs 20 dollars.",
        "Everything is free.",
        "Our parking is lovely.",
        "word " * 200,
        "Good morning.",
        "",
    ],
)
async def test_small_talk_model_states_a_fact_or_nonsense_a_fixed_line_is_spoken(claim: str) -> None:
    answer = await ask(Hotel(SayingModel(claim), PAGE, ENGLISH_WORDS), "Good morning")
    assert answer == ENGLISH_WORDS.small_talk["greeting"].line


@pytest.mark.anyio
async def test_question_with_greeting_is_answered_without_the_model() -> None:
    llm = SayingModel("Hello there.")
    assert "half past six" in await ask(Hotel(llm, PAGE, ENGLISH_WORDS), "Hello, when is breakfast, please?")
    assert llm.asked == []


def test_example_file_loads_as_an_agent() -> None:
    name, factory = load_agent(Path(hotel.__file__))
    assert name == "hotel"
    assert factory(SayingModel()).greeting
