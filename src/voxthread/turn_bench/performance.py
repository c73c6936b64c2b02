"""Scenes run through a whole orchestrator with the models of a server, in audio time."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio

from voxthread.app.policies import speech_policy, turn_policy
from voxthread.bus.memory import MemoryBus
from voxthread.config import SttConfig, TurnConfig
from voxthread.core.events import AgentInterrupted, UserTranscript
from voxthread.engines.codec.opus import OpusDecoder, OpusEncoder
from voxthread.engines.models import ModelFiles
from voxthread.engines.pcm import FloatSamples
from voxthread.engines.stt.whisper import Decoder, WhisperSpeechToText
from voxthread.engines.stt.whisper_model import WhisperModel
from voxthread.engines.turn.smart_turn import SmartTurn
from voxthread.engines.vad.silero import SileroModel
from voxthread.orchestrator.ports import Engines
from voxthread.orchestrator.runner import Orchestrator
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.turn_bench.agent import FixedAgent, RecordedVoice
from voxthread.turn_bench.call import LISTENING_AGENT, PARTITION, TALKING_AGENT, Call, Heard
from voxthread.turn_bench.charged import ChargedDecodings, ChargedEndOfTurn, Judge
from voxthread.turn_bench.remembering import RememberingDecoder, in_full
from voxthread.turn_bench.scenes import Kind, Scene, words
from voxthread.turn_bench.virtual_time import IN_AUDIO_TIME, START_MS, now_ms
from voxthread.turn_bench.words import drops_repeats

_EPOCH = 1
_HOLD_QUIET_MS = 200
"""A pause of the agent in which it was not held is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """What listens. Made once for many scenes; blocking."""

    whisper: Decoder
    voice: SileroModel
    end_of_turn: Judge

    @classmethod
    def load(cls, stt_threads: int, files: ModelFiles) -> "Models":
        """Raises `ModelFileError`."""
        return cls(
            whisper=WhisperModel(files.whisper_dir, threads=stt_threads),
            voice=SileroModel(files.silero),
            end_of_turn=SmartTurn(files.smart_turn),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one scene showed."""

    name: str
    kind: Kind
    voice: str
    is_held_out: bool
    pause_ms: int
    said: str
    heard: str
    """What was answered, or taken for the caller's words."""
    reference: str
    """What the same model hears of the same audio with its full window; empty where no words are counted."""
    of_same_piece: str | None
    """As `reference`, of just the audio in which `heard` was heard: the model may hear a word otherwise beside
    other audio. None unless `heard` lacks what was said twice in a row."""
    is_cut_in: bool
    """The agent was audible inside the turn."""
    latency_ms: int | None
    """From the end of the turn to the agent's first sound; None if there was none in time."""
    is_interrupted: bool
    hold_ms: int | None
    """From the caller's first sound to the agent's last one before it fell silent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What scenes are performed with."""

    turn: TurnConfig
    stt: SttConfig
    clauses: Mapping[str, FloatSamples]
    """All the agent says."""


def run_scenes(setting: Setting, models: Models, scenes: Sequence[Scene]) -> list[Outcome]:
    """One call after another. Blocking."""
    return anyio.run(_run_scenes, setting, models, scenes, backend_options=dict(IN_AUDIO_TIME))


async def _run_scenes(setting: Setting, models: Models, scenes: Sequence[Scene]) -> list[Outcome]:
    bus = MemoryBus(partitions=1)
    whisper = RememberingDecoder(models.whisper)
    orchestrator = Orchestrator(
        bus,
        _engines(setting, models, whisper),
        invalid_ids=InvalidIds(now_ms=now_ms),
        turn=turn_policy(setting.turn),
        speech=speech_policy(setting.turn),
        now=now_ms,
    )
    async with anyio.create_task_group() as tasks:
        await tasks.start(orchestrator.run)
        orchestrator.take(PARTITION, _EPOCH)
        outcomes: list[Outcome] = []
        for number, scene in enumerate(scenes):
            heard = await Call(bus, f"session_{START_MS * 1000 + number}_{number:08x}", scene).run()
            outcomes.append(_outcome(scene, heard, whisper, models.whisper))
            whisper.forget()
        tasks.cancel_scope.cancel()
    return outcomes


def _engines(setting: Setting, models: Models, whisper: Decoder) -> Engines:
    said = words()
    return Engines(
        stt=WhisperSpeechToText(whisper, interim_ms=setting.stt.interim_ms, decodings=ChargedDecodings()),
        tts=RecordedVoice(setting.clauses),
        end_of_turn=ChargedEndOfTurn(models.end_of_turn),
        open_voice_activity=models.voice.open,
        open_decoder=OpusDecoder,
        open_encoder=OpusEncoder,
        agents={
            LISTENING_AGENT: FixedAgent(line=said["reply"]),
            TALKING_AGENT: FixedAgent(line=said["reply"], greeting=said["greeting"]),
        },
    )


def _outcome(scene: Scene, heard: Heard, pieces: RememberingDecoder, whisper: Decoder) -> Outcome:
    line = scene.line
    is_turn = line.over_agent_ms is None
    from_ms, to_ms = heard.speech_from_ms, heard.speech_to_ms
    inside = [
        at_ms
        for at_ms in heard.sounding_ms
        if is_turn and from_ms is not None and to_ms is not None and from_ms <= at_ms < to_ms
    ]
    after = [at_ms for at_ms in heard.sounding_ms if to_ms is not None and at_ms >= to_ms]
    texts = _texts(heard)
    lacks_repeats = is_turn and all(texts) and drops_repeats(line.text, " ".join(texts), line.text)
    return Outcome(
        name=line.name,
        kind=line.kind,
        voice=line.voice.name,
        is_held_out=line.is_held_out,
        pause_ms=line.longest_pause_ms,
        said=line.text,
        heard=" ".join(texts),
        reference=in_full(whisper, heard.speech()) if is_turn else "",
        of_same_piece=" ".join(in_full(whisper, pieces.audio_of(text)) for text in texts)
        if lacks_repeats
        else None,
        is_cut_in=bool(inside),
        latency_ms=after[0] - to_ms if is_turn and after and to_ms is not None and not inside else None,
        is_interrupted=any(isinstance(event, AgentInterrupted) for _, event in heard.events),
        hold_ms=None if is_turn or from_ms is None else _hold_ms(heard.sounding_ms, from_ms),
    )


def _texts(heard: Heard) -> list[str]:
    """The last final text of each utterance; while there is none at all, the last interim one."""
    final: dict[int, str] = {}
    newest = ""
    for _, event in heard.events:
        if isinstance(event, UserTranscript):
            newest = event.text
            if event.final:
                final[event.utterance_id] = event.text
    return list(final.values()) or [newest]


def _hold_ms(sounding_ms: Sequence[int], from_ms: int) -> int | None:
    during = [at_ms for at_ms in sounding_ms if at_ms >= from_ms]
    gaps = itertools.pairwise(during)
    return next((before + 20 - from_ms for before, after in gaps if after - before > _HOLD_QUIET_MS), None)
