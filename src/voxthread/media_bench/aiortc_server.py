"""The same calls served by stock aiortc, as its examples do it:
`python -m voxthread.media_bench.aiortc_server PLAN`.

An `RTCPeerConnection` for each call: its sender encodes the reply from PCM, its receiver's track hands decoded
frames, which are made the 16 kHz mono that speech models take. Commands as of `server`.
"""

import sys
import time
from fractions import Fraction
from typing import Any, Final
from uuid import uuid4

import anyio
import msgspec
import numpy as np
import soxr
from aiortc import MediaStreamTrack, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError
from anyio.abc import TaskGroup
from av import AudioFrame, AudioResampler
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from voxthread.app.http import bind, open_http, url_of
from voxthread.config import HttpConfig
from voxthread.core.audio import RTP_CLOCK_HZ, SPEECH_RATE_HZ
from voxthread.engines.codec.opus import OpusDecoder
from voxthread.media_bench.placement import take_place
from voxthread.media_bench.plan import (
    PACKET_TICKS,
    Frame,
    Heard,
    ServerPlan,
    Tracks,
    instant_us,
    read_file,
    write_file,
)
from voxthread.media_bench.usage import usage
from voxthread.media_bench.workers import obey
from voxthread.observability.logs import configure_logging

_TICK: Final = Fraction(1, RTP_CLOCK_HZ)


class ReplyTrack(MediaStreamTrack):
    """The reply over and over, a frame each 20 ms."""

    kind = "audio"

    def __init__(self, samples: NDArray[np.int16]) -> None:
        super().__init__()
        self._frames = samples.reshape(-1, 1, PACKET_TICKS)
        self._began = time.monotonic()
        self._sent = 0

    async def recv(self) -> AudioFrame:
        due = self._began + self._sent * PACKET_TICKS / RTP_CLOCK_HZ
        await anyio.sleep(max(0.0, due - time.monotonic()))
        frame = AudioFrame.from_ndarray(self._frames[self._sent % len(self._frames)], "s16", "mono")
        frame.sample_rate = RTP_CLOCK_HZ
        frame.pts, frame.time_base = self._sent * PACKET_TICKS, _TICK
        self._sent += 1
        return frame


class AiortcServer:
    """`whip` answers a call, `hang_up` ends it."""

    def __init__(self, reply: list[bytes], tasks: TaskGroup, *, keeps_audio: bool) -> None:
        self._reply = _decoded(reply)
        self._tasks = tasks
        self._keeps_audio = keeps_audio
        self._calls: dict[str, RTCPeerConnection] = {}
        self._frames: dict[str, list[Frame]] = {}

    async def whip(self, request: Request) -> Response:
        session_id = uuid4().hex
        # Without an empty list aiortc asks a public STUN server and waits for it.
        connection = self._calls[session_id] = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        connection.addTrack(ReplyTrack(self._reply))
        connection.on("track", lambda track: self._tasks.start_soon(self._listen, session_id, track))
        offer = (await request.body()).decode()
        await connection.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        return Response(
            connection.localDescription.sdp,
            201,
            {"Location": f"/whip/{session_id}", "X-Session-ID": session_id},
            media_type="application/sdp",
        )

    async def hang_up(self, request: Request) -> Response:
        await self._calls.pop(request.path_params["session_id"]).close()
        return Response()

    async def close(self) -> None:
        for connection in self._calls.values():
            await connection.close()

    def take_heard(self) -> Heard:
        frames, self._frames = self._frames, {}
        return Heard(frames=frames)

    async def _listen(self, session_id: str, track: MediaStreamTrack) -> None:
        resampler = AudioResampler(format="s16", layout="mono", rate=SPEECH_RATE_HZ)
        frames = self._frames.setdefault(session_id, [])
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, AudioFrame)
            pcm = b"".join(each.to_ndarray().tobytes() for each in resampler.resample(frame))
            frames.append(Frame(instant_us(), frame.pts or 0, pcm if self._keeps_audio else b""))


def _decoded(packets: list[bytes]) -> NDArray[np.int16]:
    decoder = OpusDecoder()
    pcm = np.frombuffer(b"".join(decoder.decode(packet) for packet in packets), "<i2")
    samples: NDArray[np.int16] = soxr.resample(pcm, SPEECH_RATE_HZ, RTP_CLOCK_HZ).astype(np.int16)
    return samples[: len(samples) // PACKET_TICKS * PACKET_TICKS]


async def run(plan: ServerPlan) -> None:
    configure_logging("error")
    place = take_place(plan.core, is_realtime=plan.is_realtime)
    http = HttpConfig(port=0)
    bound = bind(http)
    async with anyio.create_task_group() as tasks:
        reply = read_file(plan.tracks_file, Tracks).reply
        server = AiortcServer(reply, tasks, keeps_audio=plan.keeps_audio)
        routes = [
            Route("/whip", server.whip, methods=["POST"]),
            Route("/whip/{session_id}", server.hang_up, methods=["DELETE"]),
        ]

        async def tell_usage() -> dict[str, Any]:
            told: dict[str, Any] = msgspec.to_builtins(usage())
            return told

        async def write_heard(file: str) -> dict[str, Any]:
            write_file(file, server.take_heard())
            return {}

        async with open_http(Starlette(routes=routes), http, bound):
            await obey(
                {"url": url_of(http, bound), "place": place}, {"usage": tell_usage, "heard": write_heard}
            )
            await server.close()
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(run, msgspec.json.decode(sys.argv[1], type=ServerPlan))
