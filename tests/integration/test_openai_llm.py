"""The OpenAI-compatible adapter against a real server that behaves, and that does not."""

import socket
from collections.abc import Sequence

import anyio
import pytest
from anyio import to_thread

from completions import BREAK, HANG, chunk, completion, serve_completions
from voxthread.core.failures import LanguageModelError
from voxthread.core.history import Message
from voxthread.engines.llm.openai import OpenAiSettings, open_openai

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

QUESTION = [Message(role="system", text="Be brief."), Message(role="user", text="When do you open?")]


async def said(settings: OpenAiSettings) -> str:
    async with open_openai(settings) as model:
        return "".join([delta async for delta in model.reply(QUESTION)])


async def said_by(script: Sequence[bytes]) -> str:
    with serve_completions(script=script) as server:
        return await said(OpenAiSettings(base_url=server.base_url, model="m"))


async def test_the_request_is_what_the_settings_say() -> None:
    with serve_completions("Hi.") as server:
        settings = OpenAiSettings(
            base_url=server.base_url + "/", model="tiny", api_key="k", max_tokens=7, temperature=0.5
        )
        assert await said(settings) == "Hi."
    assert server.keys == ["Bearer k"]
    assert server.requests == [
        {
            "model": "tiny",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "When do you open?"},
            ],
            "max_tokens": 7,
            "temperature": 0.5,
            "stream": True,
        }
    ]
    assert "k'" not in repr(settings)


async def test_malformed_lines_comments_and_empty_choices_are_passed_over() -> None:
    noise = [
        b": keep-alive\n\n",
        b"data: {not json\n\n",
        b"data: [1, 2]\n\n",
        b'data: {"choices": []}\n\n',
        b'data: {"choices": [{"delta": {"content": null}}]}\n\n',
        b'data: {"usage": {"total_tokens": 3}}\n\n',
        b"event: ping\r\ndata: \r\n\r\n",
        b"data: " + b"[" * 50_000 + b"\n\n",
    ]
    assert await said_by([chunk("At "), *noise, chunk("seven."), *noise, b"data: [DONE]\n\n"]) == "At seven."


async def test_events_cut_anywhere_and_separators_inside_text_arrive_whole() -> None:
    stream = b"".join(completion("caf\u00e9\u2028 at\u0085 \U0001f389"))
    assert (
        await said_by([stream[at : at + 3] for at in range(0, len(stream), 3)])
        == "caf\u00e9\u2028 at\u0085 \U0001f389"
    )


async def test_a_stream_without_done_ends_at_its_finish_reason() -> None:
    assert await said_by([chunk("Yes."), chunk(finish="stop")]) == "Yes."


@pytest.mark.parametrize(
    ("status", "code", "retryable"),
    [
        (400, "llm.refused", False),
        (401, "llm.unauthorized", False),
        (403, "llm.unauthorized", False),
        (404, "llm.not_found", False),
        (408, "llm.unavailable", True),
        (429, "llm.rate_limited", True),
        (500, "llm.unavailable", True),
        (503, "llm.unavailable", True),
    ],
)
async def test_a_refusal_says_whether_to_try_again_and_quotes_nothing(
    status: int, code: str, retryable: bool
) -> None:
    with serve_completions("", status=status) as server, pytest.raises(LanguageModelError) as raised:
        await said(OpenAiSettings(base_url=server.base_url, model="m"))
    assert (raised.value.code, raised.value.retryable) == (code, retryable)
    assert "secret words" not in str(raised.value)


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([chunk("At "), b'data: {"error": {"message": "overloaded: secret words"}}\n\n'], "llm.stream_failed"),
        ([chunk("At "), BREAK], "llm.unreachable"),
        ([chunk("At ")], "llm.stream_broken"),
    ],
)
async def test_a_reply_that_breaks_off_is_an_error_after_what_was_said(script: list[bytes], code: str) -> None:
    with serve_completions(script=script) as server:
        async with open_openai(OpenAiSettings(base_url=server.base_url, model="m")) as model:
            reply = model.reply(QUESTION)
            assert await anext(reply) == "At "
            with pytest.raises(LanguageModelError) as raised:
                await anext(reply)
    assert (raised.value.code, raised.value.retryable) == (code, True)
    assert "secret words" not in str(raised.value)


async def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    with pytest.raises(LanguageModelError) as raised:
        await said_by([b"data: "] + [b"x" * 65_536] * 20)
    assert raised.value.code == "llm.stream_malformed"


async def test_a_server_that_says_nothing_times_out() -> None:
    with serve_completions(script=[HANG]) as server, pytest.raises(LanguageModelError) as raised:
        await said(OpenAiSettings(base_url=server.base_url, model="m", timeout_ms=50))
    assert (raised.value.code, raised.value.retryable) == ("llm.timeout", True)


async def test_closing_a_reply_hangs_up() -> None:
    with serve_completions(script=[chunk("At "), HANG]) as server:
        async with open_openai(OpenAiSettings(base_url=server.base_url, model="m")) as model:
            reply = model.reply(QUESTION)
            assert await anext(reply) == "At "
            await reply.aclose()
            with anyio.fail_after(5):
                await to_thread.run_sync(server.abandoned.wait)


async def test_nobody_listening_is_tried_twice_and_then_retryable() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        closed_port = taken.getsockname()[1]
        with pytest.raises(LanguageModelError) as raised:
            await said(OpenAiSettings(base_url=f"http://127.0.0.1:{closed_port}/v1?key=secret", model="m"))
    assert (raised.value.code, raised.value.retryable) == ("llm.unreachable", True)
    assert "secret" not in str(raised.value)


async def test_a_connection_dropped_before_any_answer_is_tried_once_more() -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(anyio.abc.SocketAttribute.local_port)
    connections = 0

    async def drop_the_first(client: anyio.abc.SocketStream) -> None:
        nonlocal connections
        connections += 1
        async with client:
            await client.receive()
            if connections > 1:
                head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
                await client.send(head + b"".join(completion("Hello.")))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, drop_the_first)
        assert await said(OpenAiSettings(base_url=f"http://127.0.0.1:{port}/v1", model="m")) == "Hello."
        tasks.cancel_scope.cancel()
    await listener.aclose()
    assert connections == 2
