"""Every model and codec of one orchestrator, opened together and closed together."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from anyio import to_thread

from voxthread.agent import load_agent
from voxthread.app.agent_files import agent_files
from voxthread.config import Config, LlmConfig, SttConfig
from voxthread.engines.codec.libopus import load_libopus
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.engines.llm.llama import LlamaSettings, open_llama
from voxthread.engines.llm.openai import OpenAiSettings, open_openai
from voxthread.engines.models import ModelFiles, verify
from voxthread.engines.stt.whisper import WhisperSpeechToText
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.engines.tts.piper import open_piper
from voxthread.engines.turn.smart_turn import SmartTurn
from voxthread.engines.vad.silero import SileroModel
from voxthread.orchestrator.ports import Agent, Engines, LanguageModel


@asynccontextmanager
async def open_engines(config: Config, agent_file: Path | None) -> AsyncIterator[Engines]:
    """Verify and load the models, the voice's process beside the others, and make the agents.

    Raises `ModelFileError` naming a file that is missing or damaged, `AgentError` for a bad agent file,
    `MediaError` without libopus.
    """
    load_libopus()  # or the first call would be the one to find out
    factories = dict(load_agent(path) for path in agent_files(agent_file))
    model_files = await to_thread.run_sync(verify, config.models_dir)
    async with AsyncExitStack() as stack:
        tts = await stack.enter_async_context(open_piper(model_files))
        ears = await to_thread.run_sync(_Ears, config.stt, model_files)
        stack.callback(ears.stt.close)
        llm = await stack.enter_async_context(_open_language_model(config.llm, model_files))
        await tts.ready()
        agents: Mapping[str, Agent] = {name: make(llm) for name, make in factories.items()}
        yield Engines(
            stt=ears.stt,
            tts=tts,
            end_of_turn=ears.end_of_turn,
            open_voice_activity=ears.voice.open,
            open_decoder=OpusDecoder,
            open_encoder=OpusEncoder,
            agents=agents,
        )


class _Ears:
    """The models that listen. Blocking to make, about a second."""

    def __init__(self, config: SttConfig, model_files: ModelFiles) -> None:
        whisper = WhisperModel(model_files.whisper_dir, threads=config.threads)
        self.stt = WhisperSpeechToText(whisper, interim_ms=config.interim_ms)
        self.voice = SileroModel(model_files.silero)
        self.end_of_turn = SmartTurn(model_files.smart_turn)


@asynccontextmanager
async def _open_language_model(config: LlmConfig, model_files: ModelFiles) -> AsyncIterator[LanguageModel]:
    """The bundled model, loaded, or the endpoint the configuration names."""
    if config.base_url is not None:
        settings = OpenAiSettings(
            base_url=config.base_url,
            api_key=config.api_key.get_secret_value() if config.api_key else None,
            model=config.model,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
            timeout_ms=config.timeout_ms,
        )
        async with open_openai(settings) as endpoint:
            yield endpoint
    else:
        bundled = LlamaSettings(
            model=model_files.llm_gguf,
            threads=config.threads,
            slots=config.slots,
            context_tokens=config.context_tokens,
            max_tokens=config.max_tokens,
            temperature=config.temperature,
        )
        async with open_llama(bundled) as llama:
            await llama.ready()
            yield llama
