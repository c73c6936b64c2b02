"""From the configuration to the policies of the pure core."""

import tomllib
from importlib.resources import files
from typing import Any

from voxthread.config import TurnConfig
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.speech import SpeechPolicy
from voxthread.core.turn_state import TurnPolicy
from voxthread.orchestrator.call_policy import CallPolicy

_RELEASE_BELOW_THRESHOLD = 0.15


def turn_policy(config: TurnConfig) -> TurnPolicy:
    words = _words()
    return TurnPolicy(
        endpoint=EndpointPolicy(
            endpoint_ms=config.endpoint_ms,
            complete_ms=config.complete_endpoint_ms,
            settled_ms=config.settled_endpoint_ms,
            statement_ms=config.statement_endpoint_ms,
            likely_ms=config.likely_endpoint_ms,
            doubted_ms=config.doubted_endpoint_ms,
            brief_ms=config.brief_endpoint_ms,
            open_ms=config.open_endpoint_ms,
            dictated_ms=config.dictated_endpoint_ms,
            dangling_ms=config.dangling_endpoint_ms,
            incomplete_ms=config.incomplete_endpoint_ms,
            complete_probability=config.complete_probability,
            sure_probability=config.sure_probability,
            dangling_words=frozenset(words["dangling"]),
            question_ends=frozenset(words["question_ends"]),
            numerals=frozenset(words["numerals"]),
        ),
        stt_grace_ms=config.stt_grace_ms,
        first_audio_ms=config.first_audio_ms,
        stall_ms=config.stall_ms,
        overlap_ms=config.overlap_ms,
        max_utterance_ms=config.max_utterance_ms,
        speculate=config.speculate,
        idle_ms=config.idle_ms,
        idle_prompt=words["idle_prompt"],
        line_notice=words["line_notice"],
        apology=words["apology"],
        backchannels=frozenset(words["backchannels"]),
    )


def call_policy(config: TurnConfig) -> CallPolicy:
    words = _words()
    return CallPolicy(
        max_session_ms=config.max_session_ms,
        goodbye=words["goodbye"],
        closing_notice=words["closing_notice"],
        filler_ms=config.filler_ms,
        filler=words["filler"],
    )


def speech_policy(config: TurnConfig) -> SpeechPolicy:
    return SpeechPolicy(
        threshold=config.vad_threshold,
        release=max(0.0, config.vad_threshold - _RELEASE_BELOW_THRESHOLD),
        start_ms=config.vad_start_ms,
        pause_ms=config.vad_pause_ms,
        stop_ms=config.vad_stop_ms,
    )


def _words() -> dict[str, Any]:
    return tomllib.loads(files("voxthread.app").joinpath("english.toml").read_text("utf-8"))
