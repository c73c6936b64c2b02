"""Clients as people have them complete calls: FFmpeg's WHIP muxer and aiortc, trickling and not."""

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import ASGIApp

from integration.self_signed import write_certificate
from integration.whip_call import Caller, Server, stamp_of, whip_server
from voxthread.app.http import bind, open_http, url_of
from voxthread.config import HttpConfig
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import EndCommand, PeerConnected

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

PACKET = b"\xf8spoken"


@asynccontextmanager
async def listening(**settings: Any) -> AsyncIterator[tuple[Server, str]]:
    """A server that answers over TCP, and its URL."""
    async with whip_server(**settings) as server:
        assert isinstance(server.http._transport, httpx.ASGITransport)
        app: ASGIApp = server.http._transport.app  # type: ignore[assignment]
        config = HttpConfig(port=0)
        bound = bind(config)
        async with open_http(app, config, bound):
            yield server, url_of(config, bound)


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("options", [{}, {"whip_flags": "dtls_active"}], ids=["dtls-passive", "dtls-active"])
async def test_ffmpegs_muxer_completes_a_call(tmp_path: Path, strict: bool, options: dict[str, str]) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    async with listening(strict_rfc9725=strict) as (server, url):
        script = Path(__file__).with_name("pyav_caller.py")
        command = [sys.executable, str(script), f"{url}/whip", str(certificate), str(key), json.dumps(options)]
        await anyio.run_process(command)
        records = await server.heard(lambda record: isinstance(record, EndCommand))
    assert PeerConnected(receives_audio=False) in records
    assert records[-1] == EndCommand(reason="hung_up")
    packets = [packet for each in records if isinstance(each, AudioRecord) for packet in each.packets]
    assert len(packets) >= 40
    assert all(packets), "packets were lost on loopback"


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("trickles", [False, True], ids=["at-once", "trickling"])
@pytest.mark.parametrize("direction", ["sendrecv", "sendonly"])
async def test_aiortc_completes_a_call(strict: bool, trickles: bool, direction: str) -> None:
    async with listening(strict_rfc9725=strict) as (server, url), httpx.AsyncClient() as http:
        caller = Caller()
        offer = await caller.offer(direction)
        candidates = "".join(re.findall(r"a=(?:candidate|end-of-candidates).*\r\n", offer))
        if trickles:
            offer = offer.replace(candidates, "")
        created = await http.post(f"{url}/whip", content=offer, headers={"Content-Type": "application/sdp"})
        assert created.status_code == 201, created.text
        if trickles:
            credentials = "".join(re.findall(r"a=ice-(?:ufrag|pwd):.*\r\n", offer))
            patched = await http.patch(
                created.headers["Location"],
                content=f"{credentials}m=audio 9 RTP/AVP 0\r\na=mid:0\r\n{candidates}",
                headers={
                    "Content-Type": "application/trickle-ice-sdpfrag",
                    "If-Match": created.headers["ETag"],
                },
            )
            assert patched.status_code == 204, patched.text
        await caller.connect(created.text)
        await server.heard(lambda record: isinstance(record, PeerConnected))
        caller.link.send(PACKET)
        await server.heard(lambda record: isinstance(record, AudioRecord) and PACKET in record.packets)
        if direction == "sendrecv" and not strict:
            await server.say(stamp_of(created).audio((PACKET,), timestamp=0, turn_id=1))
            await caller.until(lambda: PACKET in caller.voice)
        assert (await http.delete(created.headers["Location"])).status_code == 200
        await caller.close()
    assert caller.received or direction == "sendonly" or strict
