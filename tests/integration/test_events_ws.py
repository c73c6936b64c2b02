"""The events WebSocket over a real server and a real client, on the memory bus."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Literal

import anyio
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import HTTPConnection
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError, InvalidStatus

from voxthread.bus.memory import MemoryBus
from voxthread.core.events import AgentReplyDelta, Event, SessionBound, SessionClosed, UserTranscript
from voxthread.core.failures import SessionError
from voxthread.core.ids import refusal
from voxthread.gateway.events import EventHub, SocketLimits, create_events_routes
from voxthread.sessions.invalid_ids import InvalidIds
from voxthread.wire.events import Envelope, encode_event
from voxthread.wire.facts import EndCommand, InFact, InterruptCommand, TextCommand
from voxthread.wire.log import Record, Stream

pytestmark = pytest.mark.integration

AT_MS = 1_763_800_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    session_id: str
    frontend_session_id: str
    token: str
    partition: int
    resume_token: str | None = None
    is_new: bool = True


class Door:
    """Opens numbered sessions, one partition each in turn, and remembers their tokens."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self.sessions: dict[str, Opened] = {}

    def new(self, frontend_session_id: str | None = None) -> Opened:
        number = len(self.sessions)
        session_id = f"session_17535907413990{number:02d}_5cc15fe6"
        opened = Opened(
            session_id=session_id,
            frontend_session_id=frontend_session_id or session_id,
            token=f"token-{number}",
            partition=number % self._partitions,
        )
        self.sessions[opened.token] = opened
        return opened

    async def open(
        self,
        *,
        frontend_session_id: str | None,
        principal: str,
        session_token: str | None,
        agent: str | None,
        via: Literal["whip", "ws"],
    ) -> Opened:
        assert principal == "anonymous"
        assert via == "ws"
        if frontend_session_id is not None and (rule := refusal(frontend_session_id)) is not None:
            raise SessionError(rule, "frontend_session_id is no session id")
        if session_token is None:
            return self.new(frontend_session_id)
        if session_token not in self.sessions:
            raise SessionError("token_invalid", "the token opens no session")
        return replace(self.sessions[session_token], is_new=False)


class SentCommands:
    def __init__(self) -> None:
        self.sent: list[tuple[str, InFact]] = []

    async def send(self, session_id: str, fact: InFact) -> None:
        self.sent.append((session_id, fact))


class Stage:
    """A server with the hub and the socket route, and the pen of its sessions' owner."""

    def __init__(self, url: str, bus: MemoryBus, hub: EventHub, door: Door, commands: SentCommands) -> None:
        self.url = url
        self.bus = bus
        self.hub = hub
        self.door = door
        self.commands = commands
        self._seqs: dict[str, int] = {}

    async def publish(self, session: Opened, event: Event, *, epoch: int = 1, seq: int | None = None) -> None:
        if seq is None:
            seq = self._seqs[session.session_id] = self._seqs.get(session.session_id, 0) + 1
        envelope = Envelope(
            session_id=session.session_id,
            frontend_session_id=session.frontend_session_id,
            epoch=epoch,
            seq=seq,
            at_ms=AT_MS,
            event=event,
        )
        await self.bus.append(Stream.EVENTS, session.partition, encode_event(envelope))

    async def say(self, session: Opened, *texts: str) -> None:
        for text in texts:
            await self.publish(session, UserTranscript(utterance_id=1, text=text, final=True))

    @asynccontextmanager
    async def socket(self, **fields: object) -> AsyncIterator["Client"]:
        """A connected client; bound when any field of `session.bind` is given."""
        async with connect(self.url, max_queue=1, proxy=None, compression=None) as connection:
            client = Client(connection)
            if fields:
                await client.send({"type": "session.bind", **fields})
                client.bound = await client.next()
            yield client


class Client:
    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection
        self.bound: dict[str, Any] = {}

    async def send(self, message: dict[str, object] | str | bytes) -> None:
        await self.connection.send(json.dumps(message) if isinstance(message, dict) else message)

    async def next(self) -> dict[str, Any]:
        with anyio.fail_after(10):
            message: dict[str, Any] = json.loads(await self.connection.recv())
        return message

    async def texts(self, count: int) -> list[str]:
        return [(await self.next())["text"] for _ in range(count)]

    async def closing(self) -> tuple[int, str]:
        """Read to the end; the close code and reason."""
        with anyio.fail_after(20), suppress(ConnectionClosedError):
            async for _ in self.connection:
                pass
        assert self.connection.close_code is not None
        return self.connection.close_code, self.connection.close_reason or ""

    async def answers_ping(self, ping_id: object = 1) -> bool:
        """Whether the next message is the pong: the socket is alive and nothing else was sent."""
        await self.send({"type": "ping", "id": ping_id})
        return await self.next() == {"type": "pong", "id": ping_id}


def principal_of(connection: HTTPConnection) -> str:
    if "authorization" in connection.headers:
        raise SessionError("token_invalid", "the bearer token is not ours")
    return "anonymous"


@asynccontextmanager
async def open_stage(
    *, hub_options: dict[str, int] | None = None, bus: MemoryBus | None = None, **limits: Any
) -> AsyncIterator[Stage]:
    allowed_origins = limits.pop("allowed_origins", ("*",))
    bus = bus or MemoryBus(partitions=2)
    hub = EventHub(bus, **(hub_options or {}))
    door = Door(bus.partitions)
    commands = SentCommands()
    routes = create_events_routes(
        hub,
        door,
        commands,
        invalid_ids=InvalidIds(),
        principal_of=principal_of,
        allowed_origins=allowed_origins,
        limits=SocketLimits(**limits),
    )
    server = uvicorn.Server(
        uvicorn.Config(
            Starlette(routes=routes), port=0, log_config=None, ws_max_size=1024 * 1024, lifespan="off"
        )
    )
    served = anyio.Event()

    async def serve() -> None:
        await server.serve()
        served.set()

    async with anyio.create_task_group() as tasks:
        await tasks.start(hub.run)
        tasks.start_soon(serve)
        with anyio.fail_after(10):
            while not server.started:
                await anyio.lowlevel.checkpoint()
        port = server.servers[0].sockets[0].getsockname()[1]
        try:
            yield Stage(f"ws://127.0.0.1:{port}/ws", bus, hub, door, commands)
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True), anyio.fail_after(10):
                await served.wait()
            tasks.cancel_scope.cancel()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with open_stage() as opened:
        yield opened


@pytest.mark.anyio
async def test_unbound_bind_without_token_opens_a_session(stage: Stage) -> None:
    frontend_session_id = "session_1753590741399_qlgq6cfjw"
    async with stage.socket(frontend_session_id=frontend_session_id) as client:
        session = stage.door.sessions[client.bound["token"]]
        assert client.bound == {
            "type": "session.bound",
            "v": 1,
            "session_id": session.session_id,
            "frontend_session_id": frontend_session_id,
            "token": session.token,
        }
        await stage.publish(session, SessionBound())
        event = await client.next()
        assert (event["type"], event["seq"], event["session_id"]) == ("session.bound", 1, session.session_id)


@pytest.mark.anyio
async def test_bound_by_token_gets_the_past_then_live_events_in_order(stage: Stage) -> None:
    session = stage.door.new()
    await stage.say(session, "one", "two")
    async with stage.socket(token=session.token) as client:
        assert client.bound["session_id"] == session.session_id
        await stage.say(session, "three")
        assert await client.texts(3) == ["one", "two", "three"]


@pytest.mark.anyio
async def test_bound_with_last_event_id_gets_only_what_came_after(stage: Stage) -> None:
    session = stage.door.new()
    await stage.say(session, "one", "two", "three")
    async with stage.socket(token=session.token, last_event_id=2) as client:
        await stage.say(session, "four")
        assert await client.texts(2) == ["three", "four"]


@pytest.mark.anyio
async def test_replay_older_than_the_ring_is_read_from_the_log() -> None:
    async with open_stage(hub_options={"recent_events": 3}) as stage:
        session, other = stage.door.new(), stage.door.new()
        other = Opened(session_id=other.session_id, frontend_session_id="x", token="x", partition=0)
        said = [f"text {number}" for number in range(20)]
        for text in said:
            await stage.say(session, text)
            await stage.say(other, "not yours")
        async with (
            stage.socket(token=session.token) as first,
            stage.socket(token=session.token, last_event_id=15) as second,
        ):
            assert await first.texts(20) == said
            assert await second.texts(5) == said[15:]
            await stage.say(session, "live")
            assert await first.texts(1) == await second.texts(1) == ["live"]


@pytest.mark.anyio
async def test_session_of_an_earlier_process_is_read_from_the_log() -> None:
    bus = MemoryBus(partitions=2)
    async with open_stage(bus=bus) as earlier:
        session = earlier.door.new()
        await earlier.say(session, "before")
    async with open_stage(bus=bus) as stage:
        assert stage.door.new() == session
        async with stage.socket(token=session.token) as client:
            await stage.publish(session, UserTranscript(utterance_id=1, text="after", final=True), seq=2)
            assert await client.texts(2) == ["before", "after"]
        async with stage.socket(token=session.token) as client:
            assert await client.texts(2) == ["before", "after"]


@pytest.mark.anyio
async def test_replay_of_what_the_log_no_longer_holds_says_so_and_goes_on() -> None:
    retained = dict.fromkeys(Stream, 4096)
    async with open_stage(bus=MemoryBus(2, retained), hub_options={"recent_events": 2}) as stage:
        session = stage.door.new()
        await stage.say(session, *(f"text {number}" for number in range(20)))
        async with stage.socket(token=session.token) as client:
            error = await client.next()
            assert (error["type"], error["code"]) == ("error", "bus.position_expired")
            assert await client.texts(2) == ["text 18", "text 19"]


@pytest.mark.anyio
async def test_events_of_many_sessions_reach_only_their_own_sockets(stage: Stage) -> None:
    sessions = [stage.door.new() for _ in range(20)]

    async def watch(session: Opened, last_event_id: int) -> None:
        async with stage.socket(token=session.token, last_event_id=last_event_id) as client:
            for seq in range(last_event_id + 1, 21):
                event = await client.next()
                assert (event["session_id"], event["seq"]) == (session.session_id, seq)
                assert event["text"] == f"{session.session_id} {seq}"
            assert await client.answers_ping()

    async with anyio.create_task_group() as tasks:
        for session in sessions:
            tasks.start_soon(watch, session, 0)
            tasks.start_soon(watch, session, 7)
        for seq in range(1, 21):
            for session in sessions:
                await stage.say(session, f"{session.session_id} {seq}")


@pytest.mark.anyio
async def test_private_malformed_and_stale_records_are_not_sent(stage: Stage) -> None:
    session = stage.door.new()
    async with stage.socket(token=session.token) as client:
        await stage.bus.append(Stream.EVENTS, 0, Record(session.session_id, b'{"kind":"input"}'))
        garbage = (b"{", b"\xff", b'{"type":"error","session_id":"another","epoch":1,"seq":1}')
        for value in garbage:
            record = Record(session.session_id, value, (("ce_type", b"error"),))
            await stage.bus.append(Stream.EVENTS, 0, record)
        delta = AgentReplyDelta(turn_id=1, text="once")
        await stage.publish(session, delta, epoch=2, seq=1)
        await stage.publish(session, delta, epoch=2, seq=1)
        await stage.publish(session, delta, epoch=1, seq=2)
        await stage.publish(session, AgentReplyDelta(turn_id=1, text="again"), epoch=2, seq=2)
        assert await client.texts(2) == ["once", "again"]
        assert await client.answers_ping()


@pytest.mark.anyio
async def test_bound_commands_become_facts_of_that_session(stage: Stage) -> None:
    session = stage.door.new()
    async with stage.socket(token=session.token) as client:
        await client.send({"type": "command.text", "text": "hello"})
        await client.send({"type": "command.interrupt"})
        await client.send({"type": "command.end"})
        assert await client.answers_ping()
    assert [sent for sent, _ in stage.commands.sent] == [session.session_id] * 3
    assert [fact for _, fact in stage.commands.sent] == [
        TextCommand(text="hello"),
        InterruptCommand(),
        EndCommand(reason="ended_by_frontend"),
    ]


@pytest.mark.anyio
@pytest.mark.parametrize("is_bound", [False, True])
@pytest.mark.parametrize(
    ("garbage", "code"),
    [
        ("", "message.bad_json"),
        ("not json", "message.bad_json"),
        ("[]", "message.bad_field"),
        ('{"type":"session.hijack"}', "message.unknown_type"),
        ('{"type":"command.text","text":7}', "message.bad_field"),
        (b"\x00\x01", "message.not_text"),
        ("x" * 70_000, "message.too_large"),
    ],
)
async def test_any_state_garbage_is_an_error_and_the_socket_stays(
    stage: Stage, garbage: str | bytes, code: str, is_bound: bool
) -> None:
    async with stage.socket(**({"token": stage.door.new().token} if is_bound else {})) as client:
        await client.send(garbage)
        error = await client.next()
        assert (error["type"], error["code"], error["retryable"]) == ("error", code, False)
        assert error["message"]
        assert "seq" not in error
        assert await client.answers_ping()


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"frontend_session_id": "session_1_a"}, "too_short"),
        ({"frontend_session_id": "sessiom_1753590741399_qlgq6cfjw"}, "bad_prefix"),
        ({"frontend_session_id": "session_1753590741399qlgq6cfjw"}, "too_few_parts"),
        ({"frontend_session_id": "session_\u0661753590741399_qlgq6cfjw"}, "timestamp_not_numeric"),
        ({"frontend_session_id": "session_1753590741399_" + "a" * 200}, "too_long"),
        ({"frontend_session_id": "session_1753590741399_a\r\nb"}, "bad_character"),
        ({"frontend_session_id": "session_1753590741399_"}, "empty_random_part"),
        ({"session_id": "session_17535907413990x_5cc15fe6"}, "timestamp_not_numeric"),
        ({"session_id": "session_1753590741399000_5cc15fe6"}, "token_missing"),
        ({"session_id": "session_1753590741399999_5cc15fe6", "token": "token-0"}, "session_mismatch"),
        ({"token": "token-9"}, "token_invalid"),
    ],
)
async def test_unbound_bind_that_is_refused_says_why_and_may_try_again(
    stage: Stage, fields: dict[str, object], code: str
) -> None:
    session = stage.door.new()
    async with stage.socket(**fields) as client:
        assert (client.bound["type"], client.bound["code"]) == ("error", code)
        await client.send({"type": "session.bind", "token": session.token, "session_id": session.session_id})
        assert (await client.next())["session_id"] == session.session_id


@pytest.mark.anyio
async def test_unbound_command_and_bound_bind_are_refused(stage: Stage) -> None:
    async with stage.socket() as client:
        await client.send({"type": "command.interrupt"})
        assert (await client.next())["code"] == "session_not_bound"
        await client.send({"type": "session.bind"})
        assert (await client.next())["type"] == "session.bound"
        await client.send({"type": "session.bind"})
        assert (await client.next())["code"] == "session_already_bound"
    assert stage.commands.sent == []


@pytest.mark.anyio
async def test_flood_beyond_the_rate_is_refused_and_the_socket_stays() -> None:
    async with open_stage(messages_per_s=50, burst_messages=5) as stage, stage.socket() as client:
        for number in range(30):
            await client.send({"type": "ping", "id": number})
        answers = [await client.next() for _ in range(30)]
        refused = [answer for answer in answers if answer["type"] == "error"]
        assert {(answer["code"], answer["retryable"]) for answer in refused} == {("message.too_fast", True)}
        assert [answer["id"] for answer in answers[:5]] == [0, 1, 2, 3, 4]


@pytest.mark.anyio
async def test_socket_that_never_binds_is_closed() -> None:
    async with open_stage(bind_ms=50) as stage, stage.socket() as client:
        assert await client.closing() == (1008, "no session.bind came")


@pytest.mark.anyio
async def test_follower_that_does_not_read_is_closed_1013_and_loses_nothing_on_return() -> None:
    async with open_stage(hub_options={"waiting_events": 16}) as stage:
        session = stage.door.new()
        size = 100_000
        count = 200
        async with stage.socket(token=session.token) as slow, stage.socket(token=session.token) as quick:
            for number in range(count):
                await stage.say(session, f"{number}".ljust(size))
                assert (await quick.next())["seq"] == number + 1
            seqs: list[int] = []
            with anyio.fail_after(20), suppress(ConnectionClosedError):
                async for text in slow.connection:
                    seqs.append(json.loads(text)["seq"])  # noqa: PERF401 - the close ends this by raising
        assert slow.connection.close_code == 1013
        seen = len(seqs)
        assert seqs == list(range(1, seen + 1))
        assert 0 < seen < count
        async with stage.socket(token=session.token, last_event_id=seen) as back:
            for seq in range(seen + 1, count + 1):
                assert (await back.next())["seq"] == seq


@pytest.mark.anyio
async def test_session_closed_is_the_last_event_and_closes_the_socket(stage: Stage) -> None:
    session = stage.door.new()
    async with stage.socket(token=session.token) as client:
        await stage.publish(session, SessionClosed(reason="hung_up"))
        assert (await client.next())["type"] == "session.closed"
        assert (await client.closing())[0] == 1000
    async with stage.socket(token=session.token) as late:
        assert (await late.next())["type"] == "session.closed"
        assert (await late.closing())[0] == 1000


@pytest.mark.anyio
async def test_drain_closes_1012_after_the_queued_events(stage: Stage) -> None:
    session = stage.door.new()
    async with stage.socket(token=session.token) as client:
        await stage.say(session, "last")
        assert await client.texts(1) == ["last"]
        stage.hub.drain()
        code, reason = await client.closing()
        assert code == 1012
        assert "last_event_id" in reason


@pytest.mark.anyio
async def test_another_origin_is_denied_unless_allowed() -> None:
    async with open_stage(allowed_origins=("https://app.example",)) as stage:
        host = stage.url.removeprefix("ws://").removesuffix("/ws")
        for origin in ("https://app.example", f"http://{host}", None):
            async with connect(stage.url, origin=origin, proxy=None) as connection:
                assert await Client(connection).answers_ping()
        with pytest.raises(InvalidStatus) as caught:
            await connect(stage.url, origin="https://evil.example", proxy=None)
        assert caught.value.response.status_code == 403
        assert b"origin_forbidden" in caught.value.response.body


@pytest.mark.anyio
async def test_wrong_credential_is_denied_401(stage: Stage) -> None:
    with pytest.raises(InvalidStatus) as caught:
        await connect(stage.url, additional_headers={"Authorization": "Bearer forged"}, proxy=None)
    assert caught.value.response.status_code == 401
    assert "WWW-Authenticate" in caught.value.response.headers


@pytest.mark.anyio
async def test_one_socket_too_many_is_denied_503() -> None:
    async with open_stage(max_sockets=1) as stage, stage.socket():
        with pytest.raises(InvalidStatus) as caught:
            await connect(stage.url, proxy=None)
        assert caught.value.response.status_code == 503
        assert "Retry-After" in caught.value.response.headers
