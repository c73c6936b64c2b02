"""Two whole calls on a real server: each line, record and event names its session; no line tells a secret."""

import io
import json
import logging
import re
from collections.abc import AsyncIterable, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio
import pytest
import structlog

from scripted_server import NumberEar, NumberVoice, Running, engines, running_server, tone
from voxthread.client.call import Patience
from voxthread.client.dial import open_call
from voxthread.client.utterance import encode_utterance
from voxthread.client.whip import WhipClient
from voxthread.core.audio import PcmFrame
from voxthread.core.failures import LanguageModelError
from voxthread.core.history import Message
from voxthread.core.transcripts import Flush, Transcript
from voxthread.observability.logs import configure_logging
from voxthread.sessions.identity import SessionIdMint
from voxthread.wire.audio import is_audio
from voxthread.wire.log import SINGLE_PARTITION, Record, Stream
from voxthread.wire.snapshots import is_progress

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

OF_THE_PROCESS = {"auth.open", "server.ready", "server.stopping"}
"""Lines that belong to no session."""

LIFE = ["session.created", "alias.bound", "alias.fallback", "alias.removed", "session.closed"]
OTHER_NAMES = re.compile(r"(?i)^(sessionid|session|sid|sess|media_session_id|callid|call_id|session-id)$")
library = logging.getLogger("somebody.elses.library")


class TalkativeEar(NumberEar):
    """A library inside speech-to-text that warns of something."""

    async def transcribe(self, audio: AsyncIterable[PcmFrame | Flush]) -> AsyncIterator[Transcript]:
        library.warning("from the task of an utterance")
        async for transcript in super().transcribe(audio):
            yield transcript


class TalkativeVoice(NumberVoice):
    async def synthesize(self, text: str) -> AsyncIterator[PcmFrame]:
        await anyio.to_thread.run_sync(library.warning, "from a thread of a synthesis")
        async for frame in super().synthesize(text):
            yield frame


class FailingAgent:
    """Greets, answers once, then fails: the apology and its lines belong to the session too."""

    greeting = "Mellow greeting of agent 77."

    async def reply(self, history: Sequence[Message], utterance: str) -> AsyncIterator[str]:
        if any(message.role == "user" for message in history):
            raise LanguageModelError("llm.unreachable", "the model does not answer", retryable=True)
        yield f"Mellow answer to {utterance}."


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    root, ours = logging.getLogger(), logging.getLogger("voxthread")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    configure_logging("debug", stream)
    yield stream
    structlog.contextvars.clear_contextvars()
    structlog.reset_defaults()
    root.handlers[:], root.level, ours.level = before


@dataclass(slots=True)
class Trace:
    """What two calls left behind, one with an alias and one without, and the secrets they held."""

    sessions: list[tuple[str, str]] = field(default_factory=list)
    secrets: set[str] = field(default_factory=set)
    records: dict[Stream, list[Record]] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)
    """From the first session on; before it the server prepares the phrases of its agents."""
    text: str = ""


@pytest.fixture
async def trace(lines: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Trace:
    found = Trace()
    _keep_secrets(found.secrets, monkeypatch)
    with_agent = engines(FailingAgent(), stt=TalkativeEar(), tts=TalkativeVoice())
    async with running_server(with_agent) as running:
        await _call(running, SessionIdMint().frontend_session_id(), found)
        await _call(running, None, found)
        found.records = await _records(running)
    found.text = lines.getvalue()
    log = [json.loads(line) for line in found.text.splitlines()]
    began = next(index for index, line in enumerate(log) if line["event"] == "session.created")
    found.log = log[began:]
    return found


async def _call(running: Running, frontend_session_id: str | None, found: Trace) -> None:
    patience = Patience(connect_ms=20_000)
    async with open_call(running.url, frontend_session_id=frontend_session_id, patience=patience) as call:
        await call.greeting()
        await call.reply(await call.say(encode_utterance(tone(42, 600))))
        await call.reply(await call.say(encode_utterance(tone(43, 600))))
    found.sessions.append((call.session_id, call.frontend_session_id))


def _keep_secrets(secrets: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Note down what the calls negotiate: ICE credentials of both sides, the session token, the session URL."""
    place = WhipClient.place

    async def placed(self: WhipClient, offer: str, **options: Any) -> Any:
        answer = await place(self, offer, **options)
        for sdp in (offer, answer.sdp):
            secrets.update(re.findall(r"(?m)^a=(?:ice-ufrag|ice-pwd|fingerprint):(\S.*?)\s*$", sdp))
        secrets.update((answer.session_token, answer.location.rpartition("/")[2]))
        secrets.add(answer.resume_token or "no resume token")
        return answer

    monkeypatch.setattr(WhipClient, "place", placed)


async def _records(running: Running) -> dict[Stream, list[Record]]:
    found: dict[Stream, list[Record]] = {}
    bus = running.server.bus
    for stream in Stream:
        found[stream] = []
        for partition in range(1 if stream in SINGLE_PARTITION else bus.partitions):
            head = await bus.head(stream, partition)
            if head:
                async for stored in bus.read(stream, partition, 0):
                    found[stream].append(stored.record)
                    if stored.position == head - 1:
                        break
    return found


async def test_whole_calls_leave_no_trace_without_their_session_and_none_with_a_secret(trace: Trace) -> None:
    check_lines(trace)
    check_life(trace)
    check_records(trace)
    check_silence(trace)


def check_lines(trace: Trace) -> None:
    names = dict(trace.sessions)
    for line in trace.log:
        if line["event"] in OF_THE_PROCESS:
            continue
        assert line.get("session_id") in names, line
        # until the frontend id is bound, and where there is none, the canonical one stands for it
        assert line.get("frontend_session_id") in (names[line["session_id"]], line["session_id"]), line
        assert not [name for name in line if OTHER_NAMES.match(name)], line
    libraries = [line for line in trace.log if line["logger"] == library.name]
    assert {line["event"] for line in libraries} == {
        "from the task of an utterance",
        "from a thread of a synthesis",
    }
    replies = [line for line in trace.log if "synthesis" in line["event"] or line["event"] == "reply.failed"]
    assert replies
    assert all(isinstance(line.get("turn_id"), int) for line in replies)


def check_life(trace: Trace) -> None:
    """Each line of a session's life once: with an alias, and without one."""
    (with_alias, _), (without, _) = trace.sessions
    assert _life(trace, with_alias) == ["session.created", "alias.bound", "alias.removed", "session.closed"]
    assert _life(trace, without) == ["session.created", "alias.fallback", "session.closed"]


def _life(trace: Trace, session_id: str) -> list[str]:
    told = [line for line in trace.log if line.get("session_id") == session_id]
    assert all(line["level"] == "info" for line in told if line["event"] in LIFE)
    return [line["event"] for line in told if line["event"] in LIFE]


def check_records(trace: Trace) -> None:
    names = dict(trace.sessions)
    assert not trace.records[Stream.DLQ]
    for stream in (Stream.IN, Stream.OUT, Stream.EVENTS, Stream.CLAIMS):
        of_sessions = [record for record in trace.records[stream] if not _is_of_a_partition(record)]
        assert {record.key for record in of_sessions} == set(names), stream
        for record in of_sessions:
            check_record(stream, record, names)
    for record in trace.records[Stream.STATE]:
        if not _is_of_a_partition(record):
            check_record(Stream.STATE, record, names)


def check_record(stream: Stream, record: Record, names: Mapping[str, str]) -> None:
    assert record.key in names, (stream, record)
    if not record.value or is_audio(record.value):
        return  # a tombstone, or Opus: the session is in the key alone
    value = json.loads(record.value)
    inner = value.get("claim", value)
    assert inner["session_id"] == record.key, (stream, value)
    assert not list(_other_names(value)), (stream, value)
    if stream is Stream.EVENTS and "kind" not in value:
        assert value["frontend_session_id"] == names[record.key], value


def _is_of_a_partition(record: Record) -> bool:
    """Who owns a partition, how far it was read, and a reader of claims that looks for its own place."""
    if is_progress(record.key):
        return True
    kind = json.loads(record.value).get("claim", {}).get("kind", "") if record.value[:1] == b"{" else ""
    return str(kind).startswith(("partition.", "reader."))


def _other_names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if OTHER_NAMES.match(name):
                yield name
            yield from _other_names(inner)


def check_silence(trace: Trace) -> None:
    assert len(trace.secrets) >= 10
    words = {"number 42", "number 43", "Mellow", "mellow", "answer to", "greeting of"}
    for secret in trace.secrets | words:
        whole = rf"(?<![A-Za-z0-9+/]){re.escape(secret)}(?![A-Za-z0-9+/])"
        assert not re.search(whole, trace.text), f"{secret!r} is in the log"
