"""What the pages say of events, messages, stages and questions is what there is; links lead somewhere."""

import json
import re
from dataclasses import fields
from pathlib import Path

import msgspec
import pytest

from voxthread.core.events import PUBLIC_EVENTS, Event
from voxthread.core.timing import STAGES
from voxthread.wire.commands import FrontendMessage

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "protocol.md").read_text()
ENVELOPE = {"type", "v", "session_id", "frontend_session_id", "epoch", "seq", "turn_id", "at"}


def rows(heading: str) -> dict[str, list[str]]:
    """First cell and the names in the second of each row of the tables under a heading."""
    section = PAGE.split(f"### {heading}\n", 1)[1].split("\n#", 1)[0]
    cells = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    names = {row[0].strip(" `"): re.findall(r"`(\w+)\??`", re.sub(r"\(.*?\)", "", row[1])) for row in cells}
    return {name: found for name, found in names.items() if name not in ENVELOPE}


def test_every_event_has_its_row_with_its_own_fields() -> None:
    own = {f.name for f in fields(Event)}
    assert rows("What a frontend hears") == {
        event.TYPE: [f.name for f in fields(event) if f.name not in own] for event in PUBLIC_EVENTS
    }


def test_every_message_has_its_row_with_its_fields() -> None:
    messages = {
        kind.__struct_config__.tag: [field.name for field in msgspec.structs.fields(kind)]
        for kind in FrontendMessage.__args__
    }
    assert rows("What a frontend may say") == messages


def test_every_stage_is_named() -> None:
    line = PAGE.split("Stages of `turn.timing`:", 1)[1].split(". A turn", 1)[0]
    assert tuple(re.findall(r"`(\w+)`", line)) == STAGES


@pytest.mark.parametrize("page", [*sorted(DOCS.rglob("*.md")), DOCS.parent / "README.md"], ids=lambda p: p.name)
def test_a_page_links_only_to_what_exists(page: Path) -> None:
    targets = re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text())
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_readme_publishes_the_questions_that_are_tested() -> None:
    readme = (DOCS.parent / "README.md").read_text()
    tested = json.loads((DOCS.parent / "tests/data/hotel_questions.json").read_text())["published"]
    assert re.findall(r"^- (.+\?)$", readme, re.MULTILINE) == [entry["question"] for entry in tested]
