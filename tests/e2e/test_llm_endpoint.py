"""A server whose language model is somebody's OpenAI-compatible endpoint."""

import pytest

from completions import serve_completions
from e2e.joe import say_by_joe
from e2e.served import serve
from voxthread.client.dial import open_call
from voxthread.engines.models import ModelFiles

pytestmark = [pytest.mark.e2e, pytest.mark.anyio]

QUESTION = "What is the capital of France?"
ANSWER = "Four blue elephants are reading the newspaper."


async def test_chat_with_an_endpoint_configured_speaks_what_the_endpoint_says(models: ModelFiles) -> None:
    (question,) = await say_by_joe(models, [QUESTION])
    with serve_completions(ANSWER) as endpoint:
        settings = {
            "VOXTHREAD_LLM__BASE_URL": endpoint.base_url,
            "VOXTHREAD_LLM__MODEL": "elephant-1",
            "VOXTHREAD_LLM__API_KEY": "secret",
        }
        with serve(**settings) as server:
            async with open_call(server.url, agent="chat") as call:
                await call.greeting()
                reply = await call.reply(await call.say(question))

    assert reply.turn.agent_text.strip() == ANSWER
    assert reply.turn.heard_text == ANSWER
    assert reply.v2v_ms is not None
    assert "llm_first_token" in reply.turn.stages_ms
    asked = endpoint.requests[-1]
    assert asked["model"] == "elephant-1"
    assert asked["messages"][0]["role"] == "system"
    assert asked["messages"][-1] == {"role": "user", "content": reply.turn.user_text}
    assert "capital of France" in reply.turn.user_text
    assert set(endpoint.keys) == {"Bearer secret"}
    assert "secret" not in "".join(server.log)
