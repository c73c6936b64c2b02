"""The whole server on loopback, as `voxthread serve` wires it, with scripted engines in place of models."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from voxthread.agent import Agent
from voxthread.app.http import bind, open_http, url_of
from voxthread.app.server import Server, open_server
from voxthread.config import Config
from voxthread.core.history import Message
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.orchestrator.ports import Engines, LanguageModel, SpeechToText, TextToSpeech
from voxthread.testing.listening import EnergyVoiceActivity, ScriptedEndOfTurn, ScriptedSpeechToText
from voxthread.testing.speaking import ScriptedLanguageModel, ToneTextToSpeech

MS_PER_CHARACTER = 8
"""Of the humming voice: an apology takes half a second."""


class ModelAgent:
    """Says what the language model says."""

    greeting = ""

    def __init__(self, llm: LanguageModel) -> None:
        self._llm = llm

    def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        return self._llm.reply([*history, Message(role="user", text=utterance)])


def scripted_engines(
    *,
    hears: Sequence[str] = (),
    says: Sequence[Any] = ("Yes.",),
    stt: SpeechToText | None = None,
    tts: TextToSpeech | None = None,
    agents: Mapping[str, Agent] | None = None,
) -> Engines:
    """`hears` is understood utterance by utterance, `says` answered turn by turn."""
    return Engines(
        stt=stt or ScriptedSpeechToText(*hears),
        tts=tts or ToneTextToSpeech(ms_per_character=MS_PER_CHARACTER),
        end_of_turn=ScriptedEndOfTurn(0.99),
        open_voice_activity=EnergyVoiceActivity,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents=agents or {"model": ModelAgent(ScriptedLanguageModel(says))},
    )


@dataclass(frozen=True, slots=True)
class Served:
    url: str
    server: Server


@asynccontextmanager
async def serve_scripted(engines: Engines, **sections: dict[str, Any]) -> AsyncIterator[Served]:
    """A server on a free port of loopback; `sections` of its configuration by name.

    What is scripted is said once, so it is not asked for before it is to be said.
    """
    turn = {"speculate": False, **sections.pop("turn", {})}
    config = Config(**{"http": {"port": 0}, "turn": turn, **sections})  # type: ignore[arg-type]
    bound = bind(config.http)
    async with open_server(config, engines) as server, open_http(server.http, config.http, bound):
        yield Served(url_of(config.http, bound), server)
        await server.drain()
