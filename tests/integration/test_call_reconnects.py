"""A call whose server dies, hangs or lets go goes on in the same session, and says so."""

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import numpy as np
import pytest
import soundfile
from anyio.lowlevel import checkpoint
from rich.console import Console

from integration import fake_whip_server
from integration.fake_whip_server import SESSION_ID, TOKEN, Behaviour, FakeServer, run_fake_server, tone
from voxthread.client.call import Call, Patience
from voxthread.client.dial import open_call
from voxthread.client.failures import CallError
from voxthread.client.levels import loud_span
from voxthread.client.line import Reconnect
from voxthread.client.printer import CallPrinter
from voxthread.client.script import CallOptions, run_call
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.core import events

pytestmark = [pytest.mark.integration, pytest.mark.anyio, pytest.mark.timeout(30)]

HASTY = Patience(connect_ms=3_000, greeting_ms=200, reply_ms=2_000, speech_ms=5_000)
ANSWER_MS = 1_500


class Watch:
    """What a call says of its line."""

    def __init__(self) -> None:
        self.lost = anyio.Event()
        self.back = anyio.Event()

    def __call__(self, reconnect: Reconnect) -> None:
        (self.lost if reconnect.gap_ms is None else self.back).set()


@asynccontextmanager
async def in_mid_answer(behaviour: Behaviour) -> AsyncIterator[tuple[FakeServer, Call]]:
    """A call in which the agent is being heard."""
    async with (
        run_fake_server(behaviour) as server,
        open_call(server.url, patience=HASTY, records=True) as call,
    ):
        spoken = await call.say(tone(200))
        await call.ears.sound_after(spoken.sent_us[-1])
        yield server, call


def answering(**more: object) -> Behaviour:
    return Behaviour(answers_after_ms=400, answer_ms=ANSWER_MS, **more)  # type: ignore[arg-type]


async def hear_out(call: Call) -> None:
    await call.until(lambda story: bool(story.turns) and story.turns[1].has_ended)


def heard_ms(call: Call) -> float:
    assert call.ears.track is not None
    samples = sum(len(pcm) // 2 for _, pcm in call.ears.track.parts if loud_span(pcm))
    return samples * 1000 / CALL_RATE_HZ


async def test_agent_speaking_server_killed_and_back_is_heard_to_the_end() -> None:
    async with in_mid_answer(answering()) as (server, call):
        seen = call.story.last_seq
        await server.kill()
        await server.revive()
        await hear_out(call)
        await call.ears.quiet(200)
        [reconnect] = call.reconnects
        assert reconnect.reason == "events_lost"
        assert reconnect.gap_ms is not None
        assert server.bound_after[1] >= seen > 0
    assert server.offers[1]["x-resume-token"]
    assert "authorization" not in server.offers[1]
    assert heard_ms(call) == pytest.approx(ANSWER_MS, abs=60)
    assert call.session_id == SESSION_ID
    assert call.story.agent_transcript == "La la."
    assert call.story.closed_because == "client_deleted"
    assert call.story.events == call.story.last_seq


async def test_server_killed_twice_each_resume_brings_the_token_of_the_next() -> None:
    async with in_mid_answer(answering()) as (server, call):
        for binds in (2, 3):
            await server.kill()
            await server.revive()
            while len(server.bound_after) < binds:
                await checkpoint()
        await hear_out(call)
    assert len({offer.get("x-resume-token") for offer in server.offers}) == 3
    assert len(call.reconnects) == 2


async def test_server_gone_for_a_while_is_asked_again_until_it_is_back(tmp_path: Path) -> None:
    question, printed = tmp_path / "question.wav", io.StringIO()
    soundfile.write(question, np.frombuffer(tone(200).pcm, dtype="<i2"), CALL_RATE_HZ)
    result = {}
    async with run_fake_server(answering()) as server, anyio.create_task_group() as tasks:

        async def place() -> None:
            options = CallOptions(url=server.url, lines=(question,), patience=HASTY)
            result.update(await run_call(options, CallPrinter(Console(file=printed, width=200))))

        tasks.start_soon(place)
        while not server.answered_after_ms:
            await checkpoint()
        await server.kill()
        await anyio.sleep(0.8)
        await server.revive()

    assert result["session_id"] == SESSION_ID
    assert result["agent_transcript"] == "La la."
    [reconnect] = result["reconnects"]
    assert 700 < reconnect["gap_ms"] < 2_000
    assert reconnect["reason"] == "events_lost"
    assert "line lost (events_lost), reconnecting" in printed.getvalue()
    assert f"back after {reconnect['gap_ms']} ms" in printed.getvalue()


async def test_speech_while_the_line_is_away_is_counted_as_unheard() -> None:
    watch = Watch()
    async with run_fake_server(Behaviour()) as server, open_call(server.url, on_line=watch) as call:
        await server.kill()
        await watch.lost.wait()
        lost = await call.say(tone(300))
        assert call.mouth.unheard_packets == len(lost.sent_us)
        await server.revive()
        await watch.back.wait()
        reply = await call.reply(await call.say(tone(200)))
    assert reply.turn.agent_text == "La la."
    assert call.mouth.unheard_packets == len(lost.sent_us)


async def test_agent_speaking_server_hangs_is_noticed_by_its_silence() -> None:
    async with in_mid_answer(answering()) as (server, call):
        server.go_silent()
        with anyio.fail_after(4):
            await hear_out(call)
        assert [each.reason for each in call.reconnects] == ["media_silent"]


async def test_media_connection_closed_events_alive_is_dialled_again() -> None:
    async with in_mid_answer(answering()) as (server, call):
        await server.close()
        await hear_out(call)
        assert [each.reason for each in call.reconnects] == ["media_closed"]
        assert call.story.agent_transcript == "La la."


async def test_events_restart_media_alive_only_the_events_come_again() -> None:
    async with in_mid_answer(answering()) as (server, call):
        await server.restart_events()
        await hear_out(call)
        assert len(server.bound_after) == 2
        assert len(server.offers) == 1
        assert call.reconnects == []


async def test_resume_refused_ends_the_call_with_the_servers_code() -> None:
    async with in_mid_answer(answering()) as (server, call):
        server.resume_token = "taken by another"
        await server.close()
        with pytest.raises(CallError) as failure:
            await hear_out(call)
    assert failure.value.code == "resume_token_invalid"


@pytest.mark.parametrize("losses", [1, 2])
async def test_resume_answer_lost_the_session_token_brings_the_call_back(losses: int) -> None:
    async with in_mid_answer(answering(lost_resumes=losses)) as (server, call):
        shown = server.resume_token
        await server.close()
        await hear_out(call)
        assert len(call.reconnects) == 1
        assert call.session_id == SESSION_ID
        resumes = server.offers[1:]
        assert [offer.get("x-resume-token") for offer in resumes] == [shown, *[shown, None] * losses]
        assert {offer["x-session-token"] for offer in resumes if "x-resume-token" not in offer} == {TOKEN}
        newest = server.resume_token
        await server.close()
        while len(server.offers) < 3 + 2 * losses:
            await checkpoint()
        assert server.offers[-1]["x-resume-token"] == newest
    assert call.story.agent_transcript == "La la."


async def test_resume_answer_lost_session_over_ends_the_call_with_the_servers_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with in_mid_answer(answering(lost_resumes=1)) as (server, call):
        monkeypatch.setattr(fake_whip_server, "TOKEN", "dead with its session")
        await server.close()
        with pytest.raises(CallError) as failure:
            await hear_out(call)
    assert failure.value.code == "token_invalid"


async def test_session_ended_by_the_server_media_first_is_told_as_its_end() -> None:
    async with in_mid_answer(answering()) as (server, call):
        server.resume_token = "dead with its session"
        await server.close()
        while not server.offers[1:]:
            await checkpoint()
        server.tell(events.SessionClosed(reason="agent_hung_up"))
        with pytest.raises(CallError) as failure:
            await call.until(lambda story: False)
    assert failure.value.code == "call.closed"


async def test_hanging_up_while_the_line_is_away_does_not_wait_for_it() -> None:
    watch = Watch()
    with anyio.fail_after(5):
        async with run_fake_server(Behaviour()) as server, open_call(server.url, on_line=watch) as call:
            await server.kill()
            await watch.lost.wait()
    assert call.reconnects[0].gap_ms is None


async def test_server_without_resume_tokens_the_call_is_lost() -> None:
    async with in_mid_answer(answering(may_resume=False)) as (server, call):
        await server.kill()
        with pytest.raises(CallError) as failure:
            await hear_out(call)
    assert failure.value.code == "call.events_lost"
    assert call.reconnects == []
