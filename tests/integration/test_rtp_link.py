"""Two RTP links over a real aiortc connection on loopback."""

import itertools
import secrets
import socket
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from aioice.ice import CandidatePair
from aiortc import RTCConfiguration, RTCIceGatherer, RTCPeerConnection

from voxthread.media.aiortc_seams import dtls_of, gather_at, nominated_pair, take_over_media
from voxthread.media.datagrams import STRANGERS_BURST, STRANGERS_PER_S
from voxthread.media.link import NOTHING_MORE, PACKET_SAMPLES, Negotiated, RtpLink
from voxthread.media.ports import bind_sockets
from voxthread.media.rtp import RtpPacket, build_rtp
from voxthread.observability.clock import now_us

pytestmark = pytest.mark.integration


async def connect() -> tuple[RTCPeerConnection, RTCPeerConnection]:
    offerer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    answerer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    offerer.addTransceiver("audio")
    take_over_media(offerer)
    await offerer.setLocalDescription(await offerer.createOffer())
    answerer.addTransceiver("audio")
    take_over_media(answerer)
    await answerer.setRemoteDescription(offerer.localDescription)
    await answerer.setLocalDescription(await answerer.createAnswer())
    await offerer.setRemoteDescription(answerer.localDescription)
    for connection in (offerer, answerer):
        await until_connected(connection)
    return offerer, answerer


async def until_connected(connection: RTCPeerConnection) -> None:
    changed = anyio.Event()

    def check() -> None:
        if connection.connectionState == "connected":
            changed.set()

    connection.on("connectionstatechange", check)
    check()
    with anyio.fail_after(5):
        await changed.wait()


@pytest.mark.anyio
async def test_packets_sent_on_one_link_arrive_on_the_other_without_threads() -> None:
    threads = threading.active_count()
    offerer, answerer = await connect()
    received: list[RtpPacket] = []
    done = anyio.Event()

    def receive(packet: RtpPacket, arrival_us: int) -> None:
        assert arrival_us > 0
        received.append(packet)
        if len(received) == 3:
            done.set()

    sender = RtpLink(dtls_of(offerer), payload_type=96, on_packet=lambda packet, arrival_us: None)
    receiver = RtpLink(dtls_of(answerer), payload_type=96, on_packet=receive)
    assert sender.send(b"one")
    assert sender.send(b"two")
    assert sender.send(b"three", 5 * PACKET_SAMPLES)
    sender.send_report()
    with anyio.fail_after(5):
        await done.wait()
    assert [packet.payload for packet in received] == [b"one", b"two", b"three"]
    assert [packet.marker for packet in received] == [True, False, True]
    assert (received[2].timestamp - received[1].timestamp) % (1 << 32) == 5 * PACKET_SAMPLES
    assert (received[2].sequence - received[0].sequence) % (1 << 16) == 2
    assert receiver.rejected_packets == 0
    assert threading.active_count() == threads
    for link in (sender, receiver):
        link.detach()
    await offerer.close()
    await answerer.close()
    assert not sender.send(b"late")


@dataclass
class Line:
    """A caller and a server, and what the server received."""

    caller: RtpLink
    server: RtpLink
    caller_connection: RTCPeerConnection
    server_connection: RTCPeerConnection
    received: list[RtpPacket] = field(default_factory=list)
    _news: anyio.Event = field(default_factory=anyio.Event)

    def hear(self, packet: RtpPacket, _arrival_us: int) -> None:
        self.received.append(packet)
        self._news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for packets, or a moment for reports, until `condition` holds."""
        with anyio.fail_after(5):
            while not condition():
                self._news = anyio.Event()
                with anyio.move_on_after(0.01):
                    await self._news.wait()


@asynccontextmanager
async def line(negotiated: Negotiated = NOTHING_MORE) -> AsyncIterator[Line]:
    caller_connection, server_connection = await connect()
    heard: list[Line] = []

    def hear(packet: RtpPacket, arrival_us: int) -> None:
        heard[0].hear(packet, arrival_us)

    caller = RtpLink(
        dtls_of(caller_connection),
        payload_type=96,
        on_packet=lambda packet, arrival_us: None,
        negotiated=negotiated,
    )
    server = RtpLink(
        dtls_of(server_connection),
        payload_type=96,
        on_packet=hear,
        negotiated=negotiated,
    )
    heard.append(Line(caller, server, caller_connection, server_connection))
    try:
        yield heard[0]
    finally:
        for link in (caller, server):
            link.detach()
        await caller_connection.close()
        await server_connection.close()


class Losing:
    """Loses those datagrams of a connection's sender whose number is named, once."""

    def __init__(self, connection: RTCPeerConnection, monkeypatch: pytest.MonkeyPatch, lost: set[int]) -> None:
        pair = nominated_pair(dtls_of(connection))
        assert pair is not None
        self._protocol, self._numbers, self._lost = pair.protocol, itertools.count(), lost
        self._transport = pair.protocol.transport
        monkeypatch.setattr(pair.protocol, "transport", self)

    def sendto(self, data: bytes, address: tuple[str, int]) -> None:
        if 127 < data[0] < 192 and next(self._numbers) in self._lost:
            return
        self._transport.sendto(data, address)

    def __getattr__(self, name: str) -> object:
        return getattr(self._transport, name)


@pytest.mark.anyio
async def test_each_side_learns_loss_and_round_trip_from_the_others_reports(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with line() as both:
        Losing(both.caller_connection, monkeypatch, {1, 2})
        for number in range(8):
            both.caller.send(bytes((number,)))
        await both.until(lambda: len(both.received) == 6)
        assert both.caller.loss_fraction is both.caller.round_trip_ms is None
        both.caller.send_report()
        await anyio.sleep(0.05)  # reports take a moment, and the round trip is told in milliseconds
        both.server.send_report()
        await both.until(lambda: both.caller.loss_fraction is not None)
        assert both.caller.loss_fraction == pytest.approx(2 / 8, abs=1 / 256)
        assert both.caller.round_trip_ms is not None
        assert both.caller.round_trip_ms <= 30
        assert both.server.loss_fraction is None


@pytest.mark.anyio
async def test_lost_packet_is_asked_for_and_sent_again_and_still_told_as_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with line(Negotiated(nack=True)) as both:
        Losing(both.caller_connection, monkeypatch, {2})
        for number in range(4):
            both.caller.send(bytes((number,)))
            await anyio.sleep(0.02)  # as long as a packet lasts, or the line seems to jitter
        await both.until(lambda: len(both.received) == 4)
        assert [packet.payload[0] for packet in both.received] == [0, 1, 3, 2]
        assert (both.caller.resent_packets, both.server.recovered_packets) == (1, 1)
        both.server.send_report()
        await both.until(lambda: both.caller.loss_fraction is not None)
        assert both.caller.loss_fraction == pytest.approx(1 / 4, abs=1 / 256)
        both.caller._ssrc += 1
        both.caller.send(b"of another source")
        await both.until(lambda: len(both.received) == 5)
        assert both.server.recovered_packets == 1  # a count of a metric never falls


@pytest.mark.anyio
async def test_level_of_a_packet_reaches_the_other_side_where_negotiated() -> None:
    async with line(Negotiated(level_id=3)) as both:
        both.caller.send(b"loud", level=20)
        both.caller.send(b"unknown")
        await both.until(lambda: len(both.received) == 2)
        assert [(packet.level, packet.payload) for packet in both.received] == [
            (20, b"loud"),
            (None, b"unknown"),
        ]


@pytest.mark.anyio
async def test_packet_of_another_type_uses_its_number_and_brings_no_audio() -> None:
    async with line() as both:
        both.caller.send(b"first")
        both.caller._payload_type = 101
        both.caller.send(b"digit")
        both.caller._payload_type = 96
        both.caller.send(b"last")
        await both.until(lambda: len(both.received) == 3)
        assert [packet.payload for packet in both.received] == [b"first", b"", b"last"]
        assert both.server.other_packets == 1


RUBBISH_PER_S = 20_000

HEADS = (
    b"",
    b"\x00\x01\x00\x08\x21\x12\xa4\x42",  # STUN
    b"\x16\xfe\xfd",  # DTLS
    b"\x80\xc8\x00\x06",  # RTCP
    build_rtp(RtpPacket(96, 1, 2, 3, False, b"")),
    b"\x40\x00\x00\x04",  # TURN
)


async def talking(both: Line) -> CandidatePair:
    """The way that packets take, once one has."""
    both.caller.send(b"before")
    await both.until(lambda: len(both.received) == 1)
    pair = nominated_pair(dtls_of(both.caller_connection))
    assert pair is not None
    return pair


@pytest.mark.anyio
async def test_rubbish_at_a_live_port_is_counted_and_dropped_and_the_call_goes_on() -> None:
    async with line() as both:
        pair = await talking(both)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.bind((pair.local_candidate.host, 0))
            began_us, sent = now_us(), 0
            while sent < RUBBISH_PER_S // 2:
                await anyio.sleep(0.001)
                while sent < (now_us() - began_us) * RUBBISH_PER_S // 1_000_000:
                    stranger.sendto(HEADS[sent % len(HEADS)] + secrets.token_bytes(80), pair.remote_addr)
                    sent += 1
                    if sent % 400 == 0:
                        both.caller.send(sent.to_bytes(4))
        await both.until(lambda: both.caller.send(b"behind") and both.received[-1].payload == b"behind")
        assert both.server.ignored_packets > RUBBISH_PER_S // 10
        assert both.server.rejected_packets <= STRANGERS_BURST + 3 * STRANGERS_PER_S
        between = {packet.payload for packet in both.received} - {b"before", b"behind"}
        assert between  # not each: the socket's queue was full now and then


@pytest.mark.anyio
async def test_what_looks_like_dtls_from_the_peers_own_address_is_looked_at_so_often_only() -> None:
    async with line() as both:
        pair = await talking(both)
        for _ in range(1_000):
            pair.protocol.transport.sendto(b"\x16\xfe\xfd" + bytes(40), pair.remote_addr)
        await both.until(lambda: both.caller.send(b"behind") and both.received[-1].payload == b"behind")
        assert both.server.ignored_packets > 100


@pytest.mark.anyio
async def test_a_peer_that_keeps_taking_new_sources_is_a_flood() -> None:
    """Each is authentic, and libsrtp keeps state for each."""
    async with line() as both:
        for ssrc in range(100):
            both.caller._wire.send_rtp(build_rtp(RtpPacket(96, 1, 2, ssrc, False, b"one of many")))
        await both.until(lambda: both.server.is_flooded)
        assert len(both.received) < 70


@pytest.mark.anyio
async def test_malformed_stun_of_a_stranger_before_the_call_fails_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gatherer = RTCIceGatherer(iceServers=[])
    (bound,) = bind_sockets(["127.0.0.1"], None)
    await gather_at(gatherer, [bound])
    (candidate,) = gatherer.getLocalCandidates()
    corpus = (Path(__file__).parents[1] / "data" / "datagrams.txt").read_text().splitlines()[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setblocking(False)
        for line in corpus:
            stranger.sendto(bytes.fromhex(line.partition(" ")[2]), (candidate.ip, candidate.port))
            await anyio.sleep(0.001)
    assert caplog.records == []
    await gatherer._connection.close()
