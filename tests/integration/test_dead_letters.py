"""Dead letters on a log: listed without words, shown, and tried again where that can help."""

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest
import structlog
from typer.testing import CliRunner

from faked_call import RED_HZ, until
from integration.fake_media import tone_packets
from poisoned_call import GUILTY_ID, heard_by, scene
from voxthread.app.dead_letters import DeadLetterError, DeadLetters
from voxthread.bus.memory import MemoryBus
from voxthread.bus.sqlite import SqliteBus
from voxthread.cli import main
from voxthread.core import events
from voxthread.wire import facts
from voxthread.wire.audio import AudioRecord, encode_audio
from voxthread.wire.dead_letter import MAX_VALUE_BYTES, dead_letter
from voxthread.wire.log import Bus, Record, StoredRecord, Stream
from voxthread.wire.stamp import Stamp

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

WORDS = "my card number is 1234"


def said(text: str, session_id: str = GUILTY_ID) -> Record:
    return Stamp(session_id, epoch=0).in_fact(facts.TextCommand(text=text))


async def put_aside(bus: Bus, record: Record, *, stream: Stream = Stream.IN, error: str = "broken") -> int:
    letter = dead_letter(StoredRecord(7, record), stream=stream, partition=0, error=error, at_ms=1_000)
    return await bus.append(Stream.DLQ, 0, letter)


async def test_text_put_aside_of_a_live_session_is_answered_when_tried_again_and_once_only() -> None:
    async with scene() as at:
        letters = DeadLetters(at.bus)
        await until(at.bus, events.SessionConnected, session_id=GUILTY_ID)
        position = await put_aside(at.bus, said("What is green"))
        row = await letters.retry(position)
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        assert await heard_by(at.bus, GUILTY_ID) == ["You asked What is green. That I know."]
        assert [each["retried_as"] for each in await letters.listed()] == [row["retried_as"]]
        with pytest.raises(DeadLetterError, match=r"dlq\.retried_already"):
            await letters.retry(position)


async def test_speech_put_aside_of_a_live_session_is_heard_as_if_it_were_spoken_now() -> None:
    async with scene() as at:
        await until(at.bus, events.SessionConnected, session_id=GUILTY_ID)
        audio = AudioRecord(epoch=0, seq=1, timestamp=0, packets=tuple(tone_packets(RED_HZ, 3_000)))
        position = await put_aside(at.bus, Record(GUILTY_ID, encode_audio(audio)), error="poison.utterance")
        assert (await DeadLetters(at.bus).shown(position, is_revealed=True))["content"]["duration_ms"] >= 3_000
        await DeadLetters(at.bus).retry(position)
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        assert await heard_by(at.bus, GUILTY_ID) == ["You asked What is red. That I know."]


HOPELESS: dict[str, tuple[Stream, Record]] = {
    "dlq.session_ended": (Stream.IN, said("hello")),
    "dlq.not_retryable": (Stream.EVENTS, said("hello")),
    "dlq.malformed": (Stream.IN, Record(GUILTY_ID, b'{"v": 99}')),
    "dlq.no_session": (Stream.IN, said("hello", "not_a_session_id_at_all")),
    "dlq.not_whole": (Stream.IN, Record(GUILTY_ID, bytes(2 * MAX_VALUE_BYTES))),
}


@pytest.mark.parametrize("code", HOPELESS)
async def test_what_would_not_help_is_refused_and_said_why(code: str) -> None:
    bus = MemoryBus(1)
    stream, record = HOPELESS[code]
    position = await put_aside(bus, record, stream=stream)
    with pytest.raises(DeadLetterError, match=code.replace(".", r"\.")):
        await DeadLetters(bus).retry(position)
    assert await bus.head(stream, 0) == 0


async def test_a_letter_that_is_not_there_is_unknown() -> None:
    with pytest.raises(DeadLetterError, match=r"dlq\.unknown"):
        await DeadLetters(MemoryBus(1)).shown(3, is_revealed=False)


async def test_what_is_no_dead_letter_is_listed_as_such() -> None:
    bus = MemoryBus(1)
    await bus.append(Stream.DLQ, 0, Record("?", b"\xff\x00"))
    (row,) = await DeadLetters(bus).listed()
    assert row["stream"] == Stream.DLQ


@pytest.fixture
def voxthread(tmp_path: Path) -> Iterator[Callable[..., tuple[int, str]]]:
    """Run `voxthread dlq` on a log with one dead letter that holds words."""
    root, ours = logging.getLogger(), logging.getLogger("voxthread")
    before = root.handlers[:], root.level, ours.level
    url = f"sqlite:{tmp_path / 'log.db'}"

    async def prepare() -> None:
        async with SqliteBus(tmp_path / "log.db", 1) as bus:
            await put_aside(bus, said(WORDS))

    anyio.run(prepare)

    def run(*words: str) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["dlq", *words, "--bus", url])
        return result.exit_code, result.output

    yield run
    structlog.reset_defaults()  # a command configures the logs of its process
    root.handlers[:], root.level, ours.level = before


@pytest.mark.parametrize("command", [("ls",), ("ls", "--json"), ("show", "0"), ("show", "0", "--json")])
def test_words_are_not_printed_unasked(
    voxthread: Callable[..., tuple[int, str]], command: tuple[str, ...]
) -> None:
    code, output = voxthread(*command)
    assert code == 0
    assert GUILTY_ID in output
    assert "1234" not in output


def test_words_are_revealed_when_asked_for(voxthread: Callable[..., tuple[int, str]]) -> None:
    _, output = voxthread("show", "0", "--reveal", "--json")
    assert WORDS in json.loads(output)["content"]["text"]


def test_retry_that_is_refused_fails_with_its_code(voxthread: Callable[..., tuple[int, str]]) -> None:
    code, output = voxthread("retry", "0")
    assert code == 1
    assert "dlq.session_ended" in output
