"""A call from a script: say this, hear the answer, say that. What `voxthread call` does."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from anyio import to_thread

from voxthread.client.call import Call, Patience, Reply
from voxthread.client.dial import open_call
from voxthread.client.printer import CallPrinter
from voxthread.client.speech import VoiceName, load_wav, speak
from voxthread.client.utterance import Utterance, encode_utterance
from voxthread.core.audio import PACKET_MS

Line = str | Path
"""Something to say: a text, or the path of an audio file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallOptions:
    url: str
    lines: tuple[Line, ...] = ()
    """Said in order, each after the answer to the one before; none hears the greeting only."""
    agent: str | None = None
    frontend_session_id: str | None = None
    token: str | None = None
    out: Path | None = None
    """A stereo WAV of the call: caller left, agent right. Also written when the call fails."""
    voice: VoiceName = "auto"
    models_dir: Path | None = None
    """Where to look for the bundled voice if espeak-ng is missing."""
    patience: Patience = field(default_factory=Patience)


async def prepare(
    lines: Sequence[Line], *, voice: VoiceName = "auto", models_dir: Path | None = None
) -> list[Utterance]:
    """Read or synthesise, and encode, everything before a call begins. Raises `SpeechError`."""
    utterances: list[Utterance] = []
    for line in lines:
        if isinstance(line, Path):
            speech = await to_thread.run_sync(load_wav, line)
        else:
            speech = await speak(line, voice=voice, models_dir=models_dir)
        utterances.append(await to_thread.run_sync(encode_utterance, speech))
    return utterances


async def run_call(options: CallOptions, printer: CallPrinter | None = None) -> dict[str, Any]:
    """Hold a call and return the JSON of `voxthread call`. Raises `CallError`, `SpeechError`."""
    utterances = await prepare(options.lines, voice=options.voice, models_dir=options.models_dir)
    replies: list[Reply] = []
    async with open_call(
        options.url,
        agent=options.agent,
        frontend_session_id=options.frontend_session_id,
        token=options.token,
        records=options.out is not None,
        patience=options.patience,
        on_event=printer.event if printer else None,
        on_line=printer.line if printer else None,
    ) as call:
        try:
            if printer:
                printer.connected(call.session_id, call.frontend_session_id)
            await call.greeting()
            for utterance in utterances:
                reply = await call.reply(await call.say(utterance))
                replies.append(reply)
                if printer:
                    printer.measured(reply)
        finally:
            if options.out is not None:
                await call.write_recording(options.out)
    return call_json(call, replies)


def call_json(call: Call, replies: Sequence[Reply]) -> dict[str, Any]:
    """A finished call; the fields of `docs/cli.md` and a few on the quality of the line."""
    late_us = call.mouth.lateness_us
    return {
        "session_id": call.session_id,
        "frontend_session_id": call.frontend_session_id,
        "user_transcript": call.story.user_transcript,
        "agent_transcript": call.story.agent_transcript,
        "turns": [reply_json(reply) for reply in replies],
        "events": call.story.events,
        "reconnects": [asdict(reconnect) for reconnect in call.reconnects],
        "errors": [error.code for error in call.story.errors],
        "line": {
            "received_packets": call.ears.received_packets,
            "lost_packets": call.ears.lost_packets,
            "late_packets": call.ears.late_packets,
            "unheard_speech_ms": call.mouth.unheard_packets * PACKET_MS,
            "sent_late_p99_ms": round(float(np.percentile(late_us, 99)) / 1000, 1) if late_us else None,
        },
    }


def reply_json(reply: Reply) -> dict[str, Any]:
    """One utterance and its answer. Where the agent answered in several turns, ids, stages and the heard text
    are those of the last one."""
    return {
        "turn_id": reply.turn.turn_id,
        "user_text": " ".join(turn.user_text for turn in reply.turns if turn.user_text),
        "agent_text": reply.turn.agent_text,
        "heard_text": reply.turn.heard_text or "",
        "v2v_ms": None if reply.v2v_ms is None else round(reply.v2v_ms, 1),
        "stages": dict(reply.turn.stages_ms),
        "cut_in": reply.cut_in,
    }
