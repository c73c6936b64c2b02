"""Two RTP links over a real aiortc connection on loopback."""

import threading

import anyio
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection

from voxthread.media.aiortc_seams import dtls_of, take_over_media
from voxthread.media.link import PACKET_SAMPLES, RtpLink
from voxthread.media.rtp import RtpPacket

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
