"""The hotel's front desk, asked by voice, over WebRTC, with the bundled models: is it right?"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from e2e.hotel import Question, questions
from e2e.joe import say_by_joe, write_wav
from e2e.served import VOXTHREAD, Served
from voxthread.client.dial import open_call
from voxthread.core.audio import PcmFrame
from voxthread.core.ids import refusal
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio, pytest.mark.timeout(240)]

CALLS = 4
"""Side by side; together they need about one core."""

FRONTEND_ID = "session_1753590741399_qlgq6cfjw"

Spoken = Sequence[tuple[Question, PcmFrame]]


async def spoken(models: ModelFiles, asked: Sequence[Question]) -> Spoken:
    return list(zip(asked, await say_by_joe(models, [each.text for each in asked]), strict=True))


async def call_from_the_terminal(server: Served, *options: str) -> dict[str, Any]:
    """`voxthread call ... --json`: its one object on standard output."""
    command = [VOXTHREAD, "call", "--url", server.url, "--json", *options]
    ended = await anyio.run_process(command, check=False)
    assert ended.returncode == 0, ended.stderr.decode()
    result: dict[str, Any] = json.loads(ended.stdout)
    return result


async def test_published_questions_by_the_command_line_are_all_answered_rightly(
    server: Served, models: ModelFiles, tmp_path: Path
) -> None:
    asked = await spoken(models, questions("published"))
    wavs = [
        write_wav(tmp_path / f"{number}.wav", [speech], pauses_ms=[0])
        for number, (_, speech) in enumerate(asked)
    ]
    shares = (slice(0, 4), slice(4, 7), slice(7, 10))
    results: dict[int, dict[str, Any]] = {}

    async def ask(share: int, *options: str) -> None:
        flags = [flag for wav in wavs[shares[share]] for flag in ("--wav", str(wav))]
        results[share] = await call_from_the_terminal(server, *flags, *options)

    async with anyio.create_task_group() as calls:
        calls.start_soon(ask, 0, "--frontend-session-id", FRONTEND_ID)
        calls.start_soon(ask, 1)
        calls.start_soon(ask, 2)

    turns = [turn for share in sorted(results) for turn in results[share]["turns"]]
    wrong = [
        (question.text, turn["user_text"], turn["heard_text"])
        for (question, _), turn in zip(asked, turns, strict=True)
        if not question.is_answered_by(turn["heard_text"])
    ]
    assert wrong == []
    assert results[0]["frontend_session_id"] == FRONTEND_ID
    assert results[1]["frontend_session_id"] == results[1]["session_id"]
    for result in results.values():
        check_call_json(result)


def check_call_json(result: dict[str, Any]) -> None:
    """The fields that `docs/cli.md` promises, and that they agree with each other."""
    assert refusal(result["session_id"]) is None
    assert result["agent_transcript"].startswith("Harbour Light Hotel, good day.")
    assert result["events"] > len(result["turns"]) * 8
    assert result["errors"] == []
    for turn in result["turns"]:
        assert turn["user_text"] in result["user_transcript"]
        assert turn["heard_text"] == turn["agent_text"]
        assert turn["heard_text"] in result["agent_transcript"]
        assert set(turn["stages"]) >= {"transcript", "turn_decided", "first_audio", "heard"}
        assert 0 < turn["stages"]["turn_decided"] <= turn["stages"]["heard"]
        assert 100 < turn["v2v_ms"] < 6_000
    turn_ids = [turn["turn_id"] for turn in result["turns"]]
    assert turn_ids == sorted(set(turn_ids))


async def test_paraphrases_and_unanswerable_questions_meet_their_marks(
    server: Served, models: ModelFiles
) -> None:
    paraphrases, unanswerable = questions("paraphrases"), questions("unanswerable")
    asked = await spoken(models, [*paraphrases, *unanswerable])
    wrong: list[tuple[Question, str, str]] = []

    async def ask(share: Spoken) -> None:
        async with open_call(server.url) as call:
            await call.greeting()
            for question, speech in share:
                reply = await call.reply(await call.say(speech))
                heard = reply.turn.heard_text or ""
                if not question.is_answered_by(heard):
                    wrong.append((question, reply.turn.user_text, heard))

    async with anyio.create_task_group() as calls:
        for first in range(CALLS):
            calls.start_soon(ask, asked[first::CALLS])

    known = [each for each in wrong if each[0] in unanswerable]
    assert known == []
    assert len(paraphrases) - len(wrong) >= 16, wrong
