"""Whole calls against a server in the same process, over real HTTP, WebSocket and WebRTC."""

import io
import shutil
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile
from rich.console import Console

from conftest import SkipLoudly
from integration.fake_whip_server import SESSION_ID, TOKEN, Behaviour, run_fake_server, tone
from voxthread.client.bench import run_latency_bench
from voxthread.client.call import Patience
from voxthread.client.dial import open_call
from voxthread.client.failures import BenchError, CallError
from voxthread.client.levels import loud_span
from voxthread.client.printer import CallPrinter
from voxthread.client.script import CallOptions, run_call
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.client.utterance import encode_utterance

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

HASTY = Patience(connect_ms=3_000, greeting_ms=200, reply_ms=2_000, speech_ms=5_000)
CODEC_DELAY_MS = 6.5
"""Look-ahead of an Opus encoder (RFC 6716 section 2.1): how late a decoded sound begins."""


def wav_of(ms: int, path: Path) -> Path:
    soundfile.write(path, np.frombuffer(tone(ms).pcm, dtype="<i2"), CALL_RATE_HZ)
    return path


async def test_an_answer_700_ms_after_the_last_sample_is_measured_as_such() -> None:
    question = encode_utterance(tone(490))
    async with (
        run_fake_server(Behaviour(answers_after_ms=700), question) as server,
        open_call(server.url, patience=HASTY) as call,
    ):
        replies = [await call.reply(await call.say(question)) for _ in range(3)]

    measured_ms = [reply.v2v_ms for reply in replies]
    assert len(server.answered_after_ms) == 3
    # What a busy machine adds to the 700 ms is in the server's own figure too.
    errors_ms = [
        measured - answered - CODEC_DELAY_MS
        for measured, answered in zip(measured_ms, server.answered_after_ms, strict=True)
    ]
    assert min(errors_ms) == pytest.approx(0, abs=5)
    assert sorted(errors_ms)[1] < 25
    assert min(measured_ms) == pytest.approx(700, abs=25)
    assert [reply.cut_in for reply in replies] == [False] * 3
    assert [reply.turn.turn_id for reply in replies] == [1, 2, 3]


async def test_run_call_with_a_greeting_and_two_questions_tells_the_whole_call(tmp_path: Path) -> None:
    question, out = wav_of(300, tmp_path / "question.wav"), tmp_path / "call.wav"
    frontend_id = "session_1753590741399_qlgq6cfjw"
    printed = io.StringIO()
    async with run_fake_server(Behaviour(greeting_ms=300, answers_after_ms=400)) as server:
        options = CallOptions(
            url=server.url,
            lines=(question, question),
            agent="tone",
            frontend_session_id=frontend_id,
            token="mine",
            out=out,
            patience=HASTY,
        )
        result = await run_call(options, CallPrinter(Console(file=printed, width=200)))

    assert (result["session_id"], result["frontend_session_id"]) == (SESSION_ID, frontend_id)
    assert result["user_transcript"] == "Hi? Hi?"
    assert result["agent_transcript"] == "La la. La la. La la."
    assert result["errors"] == []
    first, second = result["turns"]
    assert (first["turn_id"], second["turn_id"]) == (2, 3)
    assert (first["user_text"], first["agent_text"], first["heard_text"]) == ("Hi?", "La la.", "La la.")
    assert first["stages"] == {"llm_first_token": 400, "first_audio": 400}
    assert server.offers[0]["agent"] == "tone"
    assert server.offers[0]["authorization"] == "Bearer mine"
    assert server.deleted_with == [f"Bearer {TOKEN}"]
    # session.created, three events of the greeting, six of each answer, session.closed
    assert result["events"] == 1 + 3 + 2 * 6 + 1
    assert "La la." in printed.getvalue()

    stereo, rate_hz = soundfile.read(out, dtype="int16")
    caller, agent = (loud_span(stereo[:, side].tobytes()) for side in (0, 1))
    assert caller is not None
    assert agent is not None
    assert agent.first < caller.first < caller.last < agent.last
    assert min(first["v2v_ms"], second["v2v_ms"]) > 400
    assert rate_hz == CALL_RATE_HZ


async def test_speaking_over_the_agent_measures_when_it_falls_silent() -> None:
    async with (
        run_fake_server(Behaviour(greeting_ms=10_000, answers_after_ms=400)) as server,
        open_call(server.url, patience=HASTY) as call,
    ):
        await call.ears.sound_after(0)
        spoken = call.start_saying(encode_utterance(tone(300)))
        reply = await call.reply(spoken)
        silenced_ms = call.silenced_ms(spoken)
        assert spoken.first_sound_us is not None
        stopped_ms = (server.stopped_us - spoken.first_sound_us) / 1000

    assert call.story.turns[1].is_interrupted
    assert reply.turn.turn_id == 2
    # The packet sent last is heard for 20 ms.
    assert silenced_ms == pytest.approx(stopped_ms + 20 + CODEC_DELAY_MS, abs=40)


async def test_speech_keeps_an_absolute_schedule_however_late_its_packets_are() -> None:
    async with (
        run_fake_server(Behaviour()) as server,
        open_call(server.url, patience=HASTY) as call,
    ):
        spoken = await call.say(tone(1_000))

    due_us = np.array(spoken.sent_us) - np.array(call.mouth.lateness_us)
    assert len(spoken.sent_us) == 52
    assert set(np.diff(due_us).tolist()) == {20_000}
    assert min(call.mouth.lateness_us) >= 0


async def test_no_server_says_so() -> None:
    with pytest.raises(CallError, match="does not answer") as failure:
        async with open_call("http://127.0.0.1:9"):
            pass
    assert failure.value.code == "call.unreachable"
    assert failure.value.retryable


async def test_a_refusal_carries_the_servers_code() -> None:
    async with run_fake_server(Behaviour(refusal=(400, "too_short"))) as server:
        with pytest.raises(CallError, match="400: no") as failure:
            async with open_call(server.url, frontend_session_id="x"):
                pass
    assert failure.value.code == "too_short"
    assert server.offers[0]["x-session-id"] == "x"


async def test_a_server_that_will_not_speak_is_refused() -> None:
    async with run_fake_server(Behaviour(offered_direction="recvonly")) as server:
        with pytest.raises(CallError) as failure:
            async with open_call(server.url, patience=HASTY):
                pass
    assert failure.value.code == "call.deaf"
    assert server.deleted_with


async def test_no_reply_ends_in_an_error_that_says_what_was_heard() -> None:
    patience = Patience(greeting_ms=100, reply_ms=300)
    async with run_fake_server(Behaviour(is_mute=True)) as server:
        with pytest.raises(CallError, match="understood nothing of the caller") as failure:
            async with open_call(server.url, patience=patience) as call:
                await call.reply(await call.say(tone(100)))
    assert failure.value.code == "call.no_reply"
    assert server.deleted_with


async def test_refused_events_end_the_call_with_the_servers_code() -> None:
    async with run_fake_server(Behaviour(refuses_events=True)) as server:
        with pytest.raises(CallError, match="too old") as failure:
            async with open_call(server.url, patience=HASTY):
                pass
    assert failure.value.code == "token_expired"


async def test_a_session_the_server_ends_wakes_whoever_waits() -> None:
    async with run_fake_server(Behaviour(closes_after_bind=True)) as server:
        with pytest.raises(CallError, match="agent_hung_up") as failure:
            async with open_call(server.url, patience=HASTY) as call:
                await call.until(lambda story: False)
    assert failure.value.code == "call.closed"
    assert not server.deleted_with


async def test_a_lost_media_connection_wakes_whoever_waits() -> None:
    async with run_fake_server(Behaviour(greeting_ms=100, may_resume=False)) as server:

        async def lose_the_call() -> None:
            async with open_call(server.url, patience=HASTY) as call:
                await call.greeting()
                await server.close()
                await call.until(lambda story: False)

        with anyio.fail_after(5), pytest.raises(CallError) as failure:
            await lose_the_call()
    assert failure.value.code == "call.lost"


async def test_the_latency_benchmark_of_one_question(skip_loudly: SkipLoudly) -> None:
    if not shutil.which("espeak-ng"):
        skip_loudly("espeak-ng", "the questions of the benchmark need a voice")
    async with run_fake_server(Behaviour(answers_after_ms=900, greeting_ms=100)) as server:
        result = await run_latency_bench(server.url, turns=1)

    assert set(result) >= {"v2v_ms", "stages_ms", "machine", "load"}
    assert result["v2v_ms"]["median"] == result["v2v_ms"]["all"][0]
    assert result["v2v_ms"]["median"] > 890
    assert result["stages_ms"] == {"llm_first_token": 900.0, "first_audio": 900.0}
    assert set(result["machine"]) == {"cpu", "cores", "python", "platform"}
    assert set(result["load"]) == {"before", "after"}
    assert server.offers[0]["agent"] == "chat"


async def test_the_latency_benchmark_without_a_language_model_fails(skip_loudly: SkipLoudly) -> None:
    if not shutil.which("espeak-ng"):
        skip_loudly("espeak-ng", "the questions of the benchmark need a voice")
    behaviour = Behaviour(answers_after_ms=900, greeting_ms=100, stages=("first_audio",))
    async with run_fake_server(behaviour) as server:
        with pytest.raises(BenchError) as failure:
            await run_latency_bench(server.url, turns=1)
    assert failure.value.code == "bench.no_llm"
