"""What callers hear and see when something breaks in mid-call, and that the call goes on."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from anyio.lowlevel import checkpoint
from websockets.asyncio.client import ClientConnection, connect

from integration.fake_whip_server import tone
from integration.faked_server import MS_PER_CHARACTER, ModelAgent, scripted_engines, serve_scripted
from voxthread.agent import Agent
from voxthread.app.policies import turn_policy
from voxthread.client.call import Call, Patience, Reply
from voxthread.client.dial import open_call
from voxthread.client.failures import CallError
from voxthread.client.peer import Peer
from voxthread.client.utterance import encode_utterance
from voxthread.client.whip import WhipClient
from voxthread.config import TurnConfig
from voxthread.core.audio import PcmFrame
from voxthread.core.failures import TranscriptionError
from voxthread.core.history import Message
from voxthread.core.transcripts import Flush, Transcript
from voxthread.orchestrator.ports import Engines
from voxthread.testing.listening import ScriptedSpeechToText
from voxthread.testing.speaking import Failing, ScriptedLanguageModel, ToneTextToSpeech

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

APOLOGY = turn_policy(TurnConfig()).apology
HASTY = Patience(connect_ms=5_000, greeting_ms=100, reply_ms=8_000, speech_ms=10_000)
QUESTION = encode_utterance(tone(400))
HEARS = ("when is breakfast", "when is breakfast served")
ANSWER = "Breakfast is at seven."


async def ask(call: Call) -> Reply:
    return await call.reply(await call.say(QUESTION))


def check_apology(call: Call, reply: Reply, *, code: str) -> None:
    """The failure is told by one event, and apologised for aloud."""
    assert [error.code for error in call.story.errors] == [code]
    assert reply.turn.heard_text == APOLOGY
    heard_us = call.ears.sounds.first_after(reply.turn.began_us)
    assert heard_us is not None
    assert call.ears.sounds.last_us is not None
    assert call.ears.sounds.last_us - heard_us > 300_000


async def apologises_and_goes_on(engines: Engines, *, code: str, **sections: dict[str, Any]) -> Call:
    """A call whose first question fails and whose second one is answered."""
    async with serve_scripted(engines, **sections) as served, open_call(served.url, patience=HASTY) as call:
        check_apology(call, await ask(call), code=code)
        answered = await ask(call)
        assert answered.turn.heard_text == ANSWER
        assert answered.v2v_ms is not None
    return call


@pytest.mark.parametrize("after_tokens", [0, 12])
async def test_answering_language_model_fails_is_apologised_for(after_tokens: int) -> None:
    failing = Failing(text="Breakfast is served in the garden room from " * 3, after_tokens=after_tokens)
    engines = scripted_engines(hears=HEARS, says=[failing, ANSWER])
    call = await apologises_and_goes_on(engines, code="llm.scripted")
    error = call.story.errors[0]
    assert (error.stage, error.retryable, error.turn_id) == ("llm", True, 1)


async def test_answering_voice_fails_is_apologised_for() -> None:
    tts = ToneTextToSpeech(ms_per_character=MS_PER_CHARACTER)
    engines = scripted_engines(hears=HEARS, says=[ANSWER], tts=tts)
    async with serve_scripted(engines) as served, open_call(served.url, patience=HASTY) as call:
        # The apology was synthesized at the start, when the voice was well.
        tts.failures = [*[None] * len(tts.spoken), Failing(after_tokens=1)]
        check_apology(call, await ask(call), code="tts.scripted")
        assert (await ask(call)).turn.heard_text == ANSWER


async def test_answering_voice_dead_for_good_still_apologises() -> None:
    tts = ToneTextToSpeech(ms_per_character=MS_PER_CHARACTER)
    async with (
        serve_scripted(scripted_engines(hears=HEARS, says=[ANSWER], tts=tts)) as served,
        open_call(served.url, patience=HASTY) as call,
    ):
        tts.failures = [*[None] * len(tts.spoken), *[Failing()] * 10]
        for _ in HEARS:
            assert (await ask(call)).turn.heard_text == APOLOGY
    assert {error.code for error in call.story.errors} == {"tts.scripted"}


class FailsOnce:
    """Speech-to-text that breaks in the middle of its first utterance."""

    def __init__(self, *texts: str) -> None:
        self._well = ScriptedSpeechToText(*texts)
        self._has_failed = False

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        if not self._has_failed:
            self._has_failed = True
            async for _ in audio:
                raise TranscriptionError("stt.broken", "the model cannot be reached", retryable=True)
        async for transcript in self._well.transcribe(audio):
            yield transcript


async def test_listening_speech_to_text_fails_is_apologised_for() -> None:
    engines = scripted_engines(stt=FailsOnce(*HEARS), says=[ANSWER])
    call = await apologises_and_goes_on(engines, code="stt.broken")
    assert call.story.user_transcript == HEARS[0]


class Misbehaving(ModelAgent):
    """An agent that does something else instead of its first reply."""

    def __init__(self, instead: Callable[[], AsyncIterator[str]]) -> None:
        super().__init__(ScriptedLanguageModel([ANSWER]))
        self._instead = [instead]

    def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        return self._instead.pop()() if self._instead else super().reply(history, utterance)


async def raise_at_once() -> AsyncIterator[str]:
    raise ValueError("the guest said something private")
    yield ""


async def raise_in_mid_sentence() -> AsyncIterator[str]:
    yield "Breakfast is served in the garden room from "
    raise KeyError("the guest said something private")


def raise_before_any_reply() -> AsyncIterator[str]:
    raise ValueError("the guest said something private")


async def never_answer() -> AsyncIterator[str]:
    await anyio.sleep_forever()
    yield ""


async def say_nothing_more() -> AsyncIterator[str]:
    yield "Breakfast is served in the garden room from seven "
    await anyio.sleep_forever()


@pytest.mark.parametrize("instead", [raise_at_once, raise_in_mid_sentence, raise_before_any_reply])
async def test_answering_agent_raises_is_apologised_for(instead: Callable[[], AsyncIterator[str]]) -> None:
    agents: dict[str, Agent] = {"rude": Misbehaving(instead)}
    call = await apologises_and_goes_on(scripted_engines(hears=HEARS, agents=agents), code="agent.failed")
    assert "private" not in call.story.errors[0].message


@pytest.mark.parametrize(
    ("instead", "code"), [(never_answer, "reply.timeout"), (say_nothing_more, "reply.stalled")]
)
async def test_answering_agent_hangs_is_apologised_for(
    instead: Callable[[], AsyncIterator[str]], code: str
) -> None:
    agents: dict[str, Agent] = {"slow": Misbehaving(instead)}
    await apologises_and_goes_on(
        scripted_engines(hears=HEARS, agents=agents), code=code, turn={"first_audio_ms": 900, "stall_ms": 900}
    )


# -- callers who do not come, stay, or fit ---------------------------------------------------------------


async def test_offer_that_never_connects_is_gone_after_the_setup_timeout() -> None:
    async with (
        serve_scripted(scripted_engines(), media={"setup_timeout_ms": 400}) as served,
        WhipClient(served.url) as whip,
        Peer(served.url, on_packet=lambda packet, at_us: None, on_lost=lambda state: None) as peer,
        connect(served.url.replace("http", "ws") + "/ws", proxy=None) as websocket,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        answer = await whip.place(await peer.offer(), agent=None, frontend_session_id=None)
        await say(websocket, {"type": "session.bind", "token": answer.session_token})
        with anyio.fail_after(3):
            closed = await until(websocket, "session.closed")
        assert closed["reason"] == "never_connected"
        assert (await http.delete(answer.location)).status_code == 404
        assert answer.session_id not in served.server.legs
        assert len(served.server.legs) == 0


def held() -> Counter[str]:
    """Tasks by what they run, and sockets, of this process: of the server and of its caller."""
    targets = [link.readlink() for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    tasks = [task.get_coro().__qualname__ for task in asyncio.all_tasks()]
    return Counter([*tasks, *["socket" for target in targets if str(target).startswith("socket:")]])


async def test_hanging_up_frees_every_task_and_socket() -> None:
    async with serve_scripted(scripted_engines(hears=HEARS * 3, says=[ANSWER])) as served:
        async with open_call(served.url, patience=HASTY) as call:
            await ask(call)
        before = held()
        for _ in range(3):
            async with open_call(served.url, patience=HASTY) as call:
                await ask(call)
        with anyio.move_on_after(5):
            while held() - before:
                await checkpoint()
        assert held() - before == Counter()
        assert len(served.server.legs) == 0


async def test_full_server_refuses_with_retry_after_until_a_line_is_free() -> None:
    async with (
        serve_scripted(scripted_engines(), media={"max_sessions": 1}) as served,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        async with open_call(served.url, patience=HASTY):
            with pytest.raises(CallError, match="503") as failure:
                async with open_call(served.url, patience=HASTY):
                    pass
            refused = await http.post(
                f"{served.url}/whip", content="v=0", headers={"Content-Type": "application/sdp"}
            )
        assert failure.value.retryable
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert refused.headers["Content-Type"] == "application/problem+json"
        async with open_call(served.url, patience=HASTY) as call:
            assert call.story.closed_because is None


# -- the events socket -----------------------------------------------------------------------------------


async def say(websocket: ClientConnection, message: dict[str, Any]) -> None:
    await websocket.send(json.dumps(message))


async def until(websocket: ClientConnection, kind: str) -> dict[str, Any]:
    async for message in websocket:
        event: dict[str, Any] = json.loads(message)
        if event["type"] == kind:
            return event
    raise AssertionError(f"the socket closed before {kind}")


GARBAGE: Sequence[str | bytes] = (
    "",
    "not json",
    "[]",
    "null",
    '"session.bind"',
    "{}",
    '{"type": "nonsense"}',
    '{"type": 7}',
    '{"type": "command.text"}',
    '{"type": "command.text", "text": ""}',
    '{"type": "command.text", "text": {"a": 1}}',
    '{"type": "session.bind", "token": "made up"}',
    "[" * 5_000,
    b"\x00\xff\xfe",
)


async def test_garbage_on_the_events_socket_is_told_and_the_call_goes_on() -> None:
    async with (
        serve_scripted(scripted_engines(hears=HEARS, says=[ANSWER])) as served,
        open_call(served.url, patience=HASTY) as call,
        connect(served.url.replace("http", "ws") + "/ws", proxy=None) as websocket,
    ):
        with anyio.fail_after(10):
            for garbage in GARBAGE:
                await websocket.send(garbage)
                assert (await until(websocket, "error"))["code"]
            await say(websocket, {"type": "session.bind", "token": call.session_token})
            await until(websocket, "session.bound")
            await say(websocket, {"type": "ping", "id": 1})
            assert (await until(websocket, "pong"))["id"] == 1
        assert (await ask(call)).turn.heard_text == ANSWER
        assert (await until(websocket, "agent.speech_stopped"))["heard_text"] == ANSWER
        assert call.story.errors == []
