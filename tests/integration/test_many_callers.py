"""300 calls over real WebRTC, 20 at once, each with a number of its own: nobody hears or reads another's."""

from collections.abc import Sequence

import anyio
import pytest

from scripted_server import NumberAgent, Running, engines, numbers_in, running_server, tone
from voxthread.client.call import Patience
from voxthread.client.dial import open_call
from voxthread.client.sessions import SessionsClient
from voxthread.client.utterance import encode_utterance
from voxthread.core.events import UserTranscript
from voxthread.sessions.identity import SessionIdMint
from voxthread.wire.events import Envelope

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

CALLS = 300
AT_ONCE = 20
PATIENCE = Patience(connect_ms=20_000)


async def speak_number(running: Running, number: int, named: dict[int, tuple[str, str]]) -> None:
    told: list[Envelope] = []
    frontend_session_id = SessionIdMint().frontend_session_id()
    async with open_call(
        running.url,
        frontend_session_id=frontend_session_id,
        records=True,
        patience=PATIENCE,
        on_event=told.append,
    ) as call:
        named[number] = call.session_id, call.frontend_session_id
        reply = await call.reply(await call.say(encode_utterance(tone(number, 600))))
    assert call.frontend_session_id == frontend_session_id
    assert {(each.session_id, each.frontend_session_id) for each in told} == {named[number]}
    assert {each.event.text for each in told if isinstance(each.event, UserTranscript)} == {f"number {number}"}
    assert [each.seq for each in told] == list(range(1, len(told) + 1))
    assert reply.turn.agent_text == reply.turn.heard_text == f"You are number {number}."
    assert call.ears.track is not None
    assert numbers_in(b"".join(pcm for _, pcm in call.ears.track.parts)) == {number}


@pytest.mark.timeout(240)
async def test_callers_who_speak_numbers_at_once_each_hear_and_read_only_their_own() -> None:
    named: dict[int, tuple[str, str]] = {}
    waiting = iter(range(CALLS))

    async def call_in_turn(running: Running) -> None:
        for number in waiting:
            await speak_number(running, number, named)

    async with (
        running_server(engines(NumberAgent())) as running,
        SessionsClient(running.url) as sessions,
    ):
        async with anyio.create_task_group() as callers:
            for _ in range(AT_ONCE):
                callers.start_soon(call_in_turn, running)
        assert len(set(named.values())) == CALLS
        await check_stories(sessions, named)


async def check_stories(sessions: SessionsClient, named: dict[int, tuple[str, str]]) -> None:
    for number, (session_id, frontend_session_id) in named.items():
        for either in (session_id, frontend_session_id):
            story = await sessions.show(either)
            assert (story["session_id"], story["frontend_session_id"]) == (session_id, frontend_session_id)
            assert (story["end_reason"], story["warnings"]) == ("hung_up", [])
            assert user_texts(story["turns"]) == [f"number {number}"]


def user_texts(turns: Sequence[dict[str, object]]) -> list[object]:
    return [turn["user_text"] for turn in turns if turn["heard_text"]]
