"""`voxthread replay` on a log in a file, as a server leaves it."""

import json
from pathlib import Path
from typing import Any

import anyio
import pytest
from typer.testing import CliRunner

from faked_call import SESSION_ID
from replay.calls import RECORDINGS
from voxthread.bus.sqlite import SqliteBus
from voxthread.cli import main
from voxthread.core import events
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.replay


def log_of(file: Path, values: list[bytes]) -> None:
    """A log with these inputs in one of its partitions, and an event behind the first."""

    async def fill() -> None:
        event = events.SessionConnected(receives_audio=True)
        envelope = Envelope(
            session_id=SESSION_ID, frontend_session_id=SESSION_ID, epoch=1, seq=1, at_ms=0, event=event
        )
        async with SqliteBus(file, 4) as bus:
            for number, value in enumerate(values):
                await bus.append(Stream.EVENTS, 2, Record(SESSION_ID, value))
                if number == 1:
                    await bus.append(Stream.EVENTS, 2, encode_event(envelope))

    anyio.run(fill)


def replayed(*arguments: str) -> tuple[int, dict[str, Any] | None, str]:
    ran = CliRunner().invoke(main, ["replay", *arguments, "--json"])
    return ran.exit_code, json.loads(ran.stdout) if ran.stdout else None, ran.stderr


@pytest.fixture
def values() -> list[bytes]:
    return (RECORDINGS / "takeover.jsonl").read_bytes().splitlines()


def test_a_recorded_session_is_replayed_and_exported(tmp_path: Path, values: list[bytes]) -> None:
    log_of(tmp_path / "log.db", values)
    export = tmp_path / "call.jsonl"
    code, result, _ = replayed(SESSION_ID, "--bus", f"sqlite:{tmp_path / 'log.db'}", "--export", str(export))
    assert code == 0
    assert result == {
        "session_id": SESSION_ID,
        "inputs": len(values),
        "effects_equal": True,
        "first_difference": None,
    }
    assert export.read_bytes().splitlines() == values


def test_a_difference_says_where_and_what_and_fails(tmp_path: Path, values: list[bytes]) -> None:
    text = "Harbour Light Hotel, good day. How can I help you?"
    values[1] = values[1].replace(text.encode(), b"Good night.")
    log_of(tmp_path / "log.db", values)
    code, result, _ = replayed(SESSION_ID, "--bus", f"sqlite:{tmp_path / 'log.db'}")
    assert code == 1
    assert result is not None
    assert not result["effects_equal"]
    difference = result["first_difference"]
    assert difference["position"] == 1
    assert (difference["input"]["type"], difference["input"]["data"]) == (
        "SpeechRequested",
        {"text": "Good night."},
    )
    assert [event["type"] for event in difference["expected"]["events"]] == ["session.connected"]
    assert difference["got"]["effects"] == [{"type": "StartSpeech", "turn_id": 1, "text": "Good night."}]
    assert difference["got"]["effects_digest"] != difference["expected"]["effects_digest"]


@pytest.mark.parametrize("session_id", ["session_1753590741399040_00000000", "no id at all"])
def test_a_session_nobody_knows_is_an_error(tmp_path: Path, values: list[bytes], session_id: str) -> None:
    log_of(tmp_path / "log.db", values)
    code, result, error = replayed(session_id, "--bus", f"sqlite:{tmp_path / 'log.db'}")
    assert (code, result) == (1, None)
    assert "session_unknown" in error


def test_a_session_whose_beginning_has_expired_is_an_error(tmp_path: Path, values: list[bytes]) -> None:
    log_of(tmp_path / "log.db", values[5:])
    code, result, error = replayed(SESSION_ID, "--bus", f"sqlite:{tmp_path / 'log.db'}")
    assert (code, result) == (1, None)
    assert "session_not_replayable" in error


def test_a_rerun_without_the_audio_is_an_error(tmp_path: Path, values: list[bytes]) -> None:
    log_of(tmp_path / "log.db", values)
    code, result, error = replayed(SESSION_ID, "--rerun", "--bus", f"sqlite:{tmp_path / 'log.db'}")
    assert (code, result) == (1, None)
    assert "session_audio_expired" in error


def test_a_log_that_is_not_there_is_an_error_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTHREAD_STATE_DIR", str(tmp_path / "state"))
    code, result, error = replayed(SESSION_ID)
    assert (code, result) == (1, None)
    assert "bus.no_log" in error
    assert not (tmp_path / "state").exists()


def test_without_a_bus_the_servers_log_is_found(
    tmp_path: Path, values: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VOXTHREAD_STATE_DIR", str(tmp_path))
    log_of(tmp_path / "port-8080" / "log.db", values)
    code, result, _ = replayed(SESSION_ID)
    assert code == 0
    assert result is not None
    assert result["effects_equal"]
