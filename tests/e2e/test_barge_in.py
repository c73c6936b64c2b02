"""Cutting the agent short, by voice and by command, with the bundled models."""

import json
from typing import Any

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect

from e2e.hotel import Question, questions
from e2e.joe import say_by_joe
from e2e.served import Served
from voxthread.client.call import Call
from voxthread.client.dial import open_call
from voxthread.client.story import Turn
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

CHECK_IN, CHECK_OUT, _, PARKING = questions("published")[:4]
HEARD_MS = 1_500
"""How much of an answer is heard before it is cut short."""
SILENCED_MS = 600


async def hear_a_while(call: Call, turn_id: int) -> None:
    """Wait until the turn has been heard for `HEARD_MS`."""
    await call.until(lambda story: turn_id in story.turns and story.turns[turn_id].has_spoken)
    begun_us = await call.ears.sound_after(call.story.turns[turn_id].began_us)
    await call.ears.sound_after(begun_us + HEARD_MS * 1_000)


def check_cut_short(turn: Turn) -> None:
    assert turn.is_interrupted
    assert turn.heard_text
    assert turn.agent_text.startswith(turn.heard_text)
    assert len(turn.heard_text) < len(turn.agent_text)


async def test_speech_over_a_long_answer_silences_it_and_is_answered(
    server: Served, models: ModelFiles
) -> None:
    first, second = await say_by_joe(models, [CHECK_IN.text, PARKING.text])
    async with open_call(server.url) as call:
        await call.greeting()
        await call.say(first)
        long_answer = call.story.last_turn_id + 1
        await hear_a_while(call, long_answer)
        spoken = await call.say(second)
        reply = await call.reply(spoken)
        silenced_ms = call.silenced_ms(spoken)

    interrupted = call.story.turns[long_answer]
    check_cut_short(interrupted)
    assert "three in the afternoon" in interrupted.agent_text
    assert silenced_ms is not None
    assert silenced_ms < SILENCED_MS
    assert reply.turn.turn_id > long_answer
    assert PARKING.is_answered_by(reply.turn.heard_text or "")
    assert call.story.errors == []


class Socket:
    """A second frontend of a session: sends commands, sees events."""

    def __init__(self, websocket: ClientConnection) -> None:
        self._websocket = websocket

    async def send(self, **message: Any) -> None:
        await self._websocket.send(json.dumps(message))

    async def until(self, kind: str, **fields: Any) -> dict[str, Any]:
        async for message in self._websocket:
            event: dict[str, Any] = json.loads(message)
            if event["type"] == kind and fields.items() <= event.items():
                return event
        raise AssertionError(f"the socket closed before {kind}")


async def ask_by_text(call: Call, socket: Socket, question: Question) -> int:
    """The turn that will answer."""
    answer = call.story.last_turn_id + 1
    await socket.send(type="command.text", text=question.text)
    return answer


async def test_interrupt_command_silences_an_answer_and_a_typed_question_is_spoken_to(server: Served) -> None:
    async with (
        open_call(server.url) as call,
        connect(server.url.replace("http", "ws") + "/ws", proxy=None) as websocket,
    ):
        await call.greeting()
        socket = Socket(websocket)
        await socket.send(type="session.bind", token=call.session_token)
        bound = await socket.until("session.bound")
        assert bound["session_id"] == call.session_id

        cut = await ask_by_text(call, socket, CHECK_IN)
        await hear_a_while(call, cut)
        await socket.send(type="command.interrupt")
        with anyio.fail_after(5):
            interrupted = await socket.until("agent.interrupted", turn_id=cut)
            await call.ears.quiet(quiet_ms=400)
        check_cut_short(call.story.turns[cut])
        assert interrupted["heard_text"] == call.story.turns[cut].heard_text

        heard = await ask_by_text(call, socket, CHECK_OUT)
        stopped = await socket.until("agent.speech_stopped", turn_id=heard)
        assert CHECK_OUT.is_answered_by(stopped["heard_text"])
        assert call.story.turns[heard].user_text == CHECK_OUT.text
        assert call.story.errors == []
