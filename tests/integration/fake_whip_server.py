"""A WHIP server whose agent answers with a tone, exactly as late as it is told to.

It can die as a killed process does, and come back; the session lives on, as if its log did.
"""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import msgspec
import numpy as np
import uvicorn
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from voxthread.client.levels import loud_span
from voxthread.client.speech import CALL_RATE_HZ
from voxthread.client.utterance import PACKET_SAMPLES, SILENT_PACKET, Utterance, encode_utterance
from voxthread.core import events
from voxthread.core.audio import PcmFrame
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.media.aiortc_seams import dtls_of, gather_at, take_over_media
from voxthread.media.link import RtpLink
from voxthread.media.ports import bind_sockets
from voxthread.media.rtp import RtpPacket
from voxthread.observability.clock import now_ms, now_us
from voxthread.wire.commands import BindSession
from voxthread.wire.events import Envelope, event_json

SESSION_ID = "session_1753590741399040_5cc15fe6"
TOKEN = "token-of-the-session"
RATE_HZ = CALL_RATE_HZ
KEEPALIVE_S = 0.4
END_OF_QUESTION_MS = 300
"""Silence after which the agent takes the question for finished; answers cannot come sooner."""


def tone(ms: int, frequency_hz: int = 440) -> PcmFrame:
    phase = 2 * np.pi * frequency_hz * np.arange(RATE_HZ * ms // 1000) / RATE_HZ
    return PcmFrame(pcm=(10_000 * np.sin(phase)).astype("<i2").tobytes(), rate_hz=RATE_HZ)


@dataclass(slots=True)
class Behaviour:
    """What the agent does. With `stops_when_spoken_over` it falls silent as soon as it hears the caller."""

    answers_after_ms: int = 700
    answer_ms: int = 400
    greeting_ms: int = 0
    is_mute: bool = False
    stages: tuple[str, ...] = ("llm_first_token", "first_audio")
    closes_after_bind: bool = False
    refuses_events: bool = False
    refusal: tuple[int, str] | None = None
    offered_direction: str = "sendrecv"
    may_resume: bool = True
    lost_resumes: int = 0
    """How many resumes use their token up and are answered by a connection that is reset."""


@dataclass(slots=True)
class FakeServer:
    behaviour: Behaviour
    tasks: TaskGroup
    question: Utterance | None = None
    """Known in advance, its end is known to the sample; else it is where its decoded sound fades out."""
    url: str = ""
    offers: list[dict[str, str]] = field(default_factory=list)
    """Headers and query of each POST."""
    deleted_with: list[str] = field(default_factory=list)
    """The Authorization of each DELETE."""
    answered_after_ms: list[float] = field(default_factory=list)
    """From the last sound of a question to the first packet of the answer."""
    bound_after: list[int] = field(default_factory=list)
    """The last_event_id of each bind."""
    stopped_us: int = 0
    """When the last packet before an interruption left."""
    resume_token: str = ""
    _http: "_Http | None" = None
    _sockets: list[WebSocket] = field(default_factory=list)
    _left: list[RTCPeerConnection] = field(default_factory=list)
    _connected: anyio.Event = field(default_factory=anyio.Event)
    _story: list[str] = field(default_factory=list)
    _new_event: anyio.Event = field(default_factory=anyio.Event)
    _connection: RTCPeerConnection | None = None
    _link: RtpLink | None = None
    _decoder: OpusDecoder = field(default_factory=OpusDecoder)
    _last_loud_us: int | None = None
    _turns: int = 0
    _is_over: bool = False
    _is_speaking: bool = False
    _is_interrupted: bool = False

    def tell(self, event: events.Event) -> None:
        seq = len(self._story) + 1
        envelope = Envelope(
            session_id=SESSION_ID,
            frontend_session_id=SESSION_ID,
            epoch=1,
            seq=seq,
            at_ms=now_ms(),
            event=event,
        )
        self._story.append(msgspec.json.encode(event_json(envelope)).decode())
        self._new_event.set()
        self._new_event = anyio.Event()

    async def post(self, request: Request) -> Response:
        self.offers.append(dict(request.headers) | dict(request.query_params))
        if self.behaviour.refusal is not None:
            status, code = self.behaviour.refusal
            problem = {"status": status, "code": code, "detail": "no"}
            return JSONResponse(problem, status, media_type="application/problem+json")
        resume_token = request.headers.get("x-resume-token")
        if resume_token is not None and resume_token != self.resume_token:
            problem = {"status": 401, "code": "resume_token_invalid", "detail": "no"}
            return JSONResponse(problem, 401, media_type="application/problem+json")
        session_token = request.headers.get("x-session-token")
        if session_token not in (None, TOKEN):
            problem = {"status": 401, "code": "token_invalid", "detail": "no"}
            return JSONResponse(problem, 401, media_type="application/problem+json")
        if (resume_token or session_token) and self.behaviour.lost_resumes:
            self.behaviour.lost_resumes -= 1
            self.resume_token = secrets.token_hex(32)
            self._reset_connections()
            return Response()
        await self._drop_connection()
        self._connection = connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.on("connectionstatechange", self._state_changed)
        offer = RTCSessionDescription((await request.body()).decode(), "offer")
        await connection.setRemoteDescription(offer)
        connection.getTransceivers()[0].direction = self.behaviour.offered_direction
        take_over_media(connection)
        await gather_at(dtls_of(connection).transport.iceGatherer, bind_sockets(["127.0.0.1"], None))
        await connection.setLocalDescription(await connection.createAnswer())
        if not self._story:
            self.tell(events.SessionCreated(agent="tone", partition=0, via="whip"))
        headers = {
            "Location": "/whip/secret",
            "X-Session-ID": SESSION_ID,
            "X-Frontend-Session-ID": request.headers.get("x-session-id", SESSION_ID),
            "X-Session-Token": TOKEN,
        }
        if self.behaviour.may_resume:
            self.resume_token = headers["X-Resume-Token"] = secrets.token_hex(32)
        return Response(connection.localDescription.sdp, 201, headers, media_type="application/sdp")

    async def delete(self, request: Request) -> Response:
        self.deleted_with.append(request.headers["authorization"])
        self.tell(events.SessionClosed(reason="client_deleted"))
        await self.close()
        return Response()

    async def close(self) -> None:
        """Close the media connection."""
        if self._connection is not None:
            await self._connection.close()

    async def start(self, port: int = 0) -> None:
        self._http = _Http(self, port)
        self.url = await self._http.start(self.tasks)

    async def kill(self) -> None:
        """As SIGKILL does: nothing says goodbye, TCP is reset, UDP is silent, nobody listens."""
        assert self._http is not None
        self.go_silent()
        await self._http.kill()

    async def revive(self) -> None:
        await self.start(port=int(self.url.rpartition(":")[2]))

    def go_silent(self) -> None:
        """As a process that hangs: connections stay, nothing is sent."""
        if self._link is not None:
            self._link.detach()
            self._link = None
            self._connected = anyio.Event()

    async def restart_events(self) -> None:
        for each in self._sockets:
            await each.close(1012)

    def _reset_connections(self) -> None:
        assert self._http is not None
        self._http.reset_connections()

    async def stop(self) -> None:
        await self._drop_connection()
        for connection in self._left:
            await connection.close()
        self._is_over = True
        self._new_event.set()
        if self._http is not None:
            await self._http.stop()

    async def _drop_connection(self) -> None:
        self.go_silent()
        connection, self._connection = self._connection, None
        if connection is not None:
            self._left.append(connection)

    async def follow(self, socket: WebSocket) -> None:
        await socket.accept()
        bind = msgspec.json.decode(await socket.receive_text(), type=BindSession)
        assert bind.token == TOKEN
        if self.behaviour.refuses_events:
            await socket.send_json({"type": "error", "code": "token_expired", "message": "too old"})
            return
        await socket.send_json({"type": "session.bound", "v": 1, "session_id": SESSION_ID})
        if self.behaviour.closes_after_bind:
            self.tell(events.SessionClosed(reason="agent_hung_up"))
        self.bound_after.append(bind.last_event_id)
        self._sockets.append(socket)
        sent = bind.last_event_id
        try:
            while not self._is_over:
                while sent < len(self._story):
                    await socket.send_text(self._story[sent])
                    sent += 1
                await self._new_event.wait()
        except WebSocketDisconnect:
            return

    def _state_changed(self) -> None:
        connection = self._connection
        if connection is not None and connection.connectionState == "connected" and self._link is None:
            payload_type = 96
            for line in connection.remoteDescription.sdp.splitlines():
                if line.lower().startswith("a=rtpmap:") and "opus" in line.lower():
                    payload_type = int(line[9:].split()[0])
            is_first = not self._turns
            self._link = RtpLink(dtls_of(connection), payload_type=payload_type, on_packet=self._hear)
            self._connected.set()
            if self.behaviour.greeting_ms and is_first:
                self.tasks.start_soon(self._say, now_us(), self.behaviour.greeting_ms, None)

    def _hear(self, packet: RtpPacket, arrival_us: int) -> None:
        last_sound = self._last_sound(packet.payload)
        if last_sound is not None:
            # The packet left when its last sample was spoken, as `Spoken` counts on the other side.
            self._last_loud_us = arrival_us - (PACKET_SAMPLES - 1 - last_sound) * 1_000_000 // RATE_HZ
            if self._is_speaking:
                self._is_interrupted = True
        elif self._last_loud_us is not None and arrival_us - self._last_loud_us > END_OF_QUESTION_MS * 1000:
            last_loud_us, self._last_loud_us = self._last_loud_us, None
            if not self.behaviour.is_mute:
                due_us = last_loud_us + self.behaviour.answers_after_ms * 1000
                self.tasks.start_soon(self._say, due_us, self.behaviour.answer_ms, last_loud_us)

    def _last_sound(self, payload: bytes) -> int | None:
        if self.question is not None:
            assert self.question.sound is not None
            packet, position = divmod(self.question.sound.last, PACKET_SAMPLES)
            return position if payload == self.question.packets[packet] else None
        sound = loud_span(self._decoder.decode(payload))
        return None if sound is None else sound.last

    async def keep_alive(self) -> None:
        """Not behind a voice that was cut off: decoders would make it ring."""
        while True:
            await anyio.sleep(KEEPALIVE_S)
            if self._link is not None and not self._is_speaking and not self.stopped_us:
                self._link.send(SILENT_PACKET)

    async def _say(self, due_us: int, ms: int, asked_us: int | None) -> None:
        self._turns += 1
        turn_id = self._turns
        if asked_us is not None:
            self.tell(events.UserTranscript(turn_id=turn_id, utterance_id=turn_id, text="Hi?", final=True))
            for stage in self.behaviour.stages:
                self.tell(events.TurnTiming(turn_id=turn_id, stage=stage, ms=self.behaviour.answers_after_ms))
        packets = encode_utterance(tone(ms)).packets
        for index, packet in enumerate(packets):
            await anyio.sleep(max(0, due_us + index * 20_000 - now_us()) / 1_000_000)
            self._is_speaking = True
            if not self._connected.is_set():
                await self._connected.wait()
                due_us = now_us() - index * 20_000
            assert self._link is not None
            self._link.send(packet)
            if index == 0:
                if asked_us is not None:
                    self.answered_after_ms.append((now_us() - asked_us) / 1000)
                self.tell(events.AgentReplyDelta(turn_id=turn_id, text="La la."))
                self.tell(events.AgentSpeechStarted(turn_id=turn_id))
            if self._is_interrupted:
                self._is_speaking = self._is_interrupted = False
                self.stopped_us = now_us()
                self.tell(events.AgentInterrupted(turn_id=turn_id, heard_text="La"))
                return
        self._is_speaking = False
        self.tell(events.AgentSpeechStopped(turn_id=turn_id, heard_text="La la.", played_ms=ms))


class _Http:
    """One life of the server's HTTP side."""

    def __init__(self, fake: FakeServer, port: int) -> None:
        routes = [
            Route("/whip", fake.post, methods=["POST"]),
            Route("/whip/secret", fake.delete, methods=["DELETE"]),
            WebSocketRoute("/ws", fake.follow),
        ]
        config = uvicorn.Config(Starlette(routes=routes), port=port, log_config=None, lifespan="off")
        self._server = uvicorn.Server(config)
        self._served = anyio.Event()

    async def start(self, tasks: TaskGroup) -> str:
        tasks.start_soon(self._serve)
        while not self._server.started:
            await checkpoint()
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    async def kill(self) -> None:
        for listener in self._server.servers:
            listener.close()
        self.reset_connections()
        self._server.force_exit = True
        await self.stop()

    def reset_connections(self) -> None:
        for connection in [*self._server.server_state.connections]:
            connection.transport.abort()

    async def stop(self) -> None:
        self._server.should_exit = True
        await self._served.wait()

    async def _serve(self) -> None:
        await self._server.serve()
        self._served.set()


@asynccontextmanager
async def run_fake_server(behaviour: Behaviour, question: Utterance | None = None) -> AsyncIterator[FakeServer]:
    """A server of one call on a free port of this machine."""
    async with anyio.create_task_group() as tasks:
        fake = FakeServer(behaviour, tasks, question)
        await fake.start()
        tasks.start_soon(fake.keep_alive)
        try:
            yield fake
        finally:
            await fake.stop()
            tasks.cancel_scope.cancel()
