"""Whole calls over WHIP on loopback: what is said reaches the log, what is on the log is heard."""

import asyncio
import datetime
import gc
import itertools
import os
import socket
import threading
import weakref

import anyio
import pytest
from aiortc import RTCPeerConnection
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from OpenSSL import SSL

from integration.whip_call import Caller, calling, stamp_of, whip_server
from integration.whip_offers import fragment
from voxthread.media.aiortc_seams import SharedCertificate, dtls_of, nominated_pair
from voxthread.media.link import PACKET_SAMPLES
from voxthread.observability.clock import now_ms
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import (
    CloseLeg,
    EndCommand,
    FlushPlayout,
    HoldPlayout,
    PeerConnected,
    PeerLost,
    PlayoutProgress,
    ReplyEnded,
    ResumePlayout,
    SessionOpened,
)
from voxthread.wire.log import Record, Stream

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

OPUS_20_MS = b"\xf8"


def voice(index: int) -> bytes:
    return OPUS_20_MS + f"packet {index}".encode()


def reply(count: int, first: int = 0) -> tuple[bytes, ...]:
    return tuple(voice(index) for index in range(first, first + count))


async def test_packets_of_a_caller_reach_the_log_in_order() -> None:
    async with whip_server() as server, calling(server) as (caller, _response):
        link = caller.link
        for index in range(12):
            link.send(voice(index))
        link.send(voice(12), 51 * PACKET_SAMPLES)
        records = await server.heard(
            lambda record: isinstance(record, AudioRecord) and record.packets[-1] == voice(12)
        )
    assert isinstance(records[0], SessionOpened)
    assert records[1] == PeerConnected(receives_audio=True)
    audio = [record for record in records if isinstance(record, AudioRecord)]
    assert [packet for record in audio for packet in record.packets] == [voice(index) for index in range(13)]
    assert audio[0].timestamp == 0
    assert audio[-1].timestamp == (11 + 51) * PACKET_SAMPLES
    assert max(record.duration_ms for record in audio) == 60


async def test_reply_on_the_log_is_heard_evenly_and_reported() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        stamp = stamp_of(response)
        await server.say(stamp.audio(reply(30), timestamp=0, turn_id=1))
        await server.say(stamp.out_fact(ReplyEnded(turn_id=1, total_ms=600)))
        records = await server.heard(
            lambda record: isinstance(record, PlayoutProgress) and record.state == "drained"
        )
        await caller.until(lambda: len(caller.voice) == 30)
    assert caller.voice == list(reply(30))
    spoken = [packet for packet in caller.received if packet.payload in reply(30)]
    steps = {(b.timestamp - a.timestamp) % (1 << 32) for a, b in itertools.pairwise(spoken)}
    assert steps == {PACKET_SAMPLES}
    reports = [record for record in records if isinstance(record, PlayoutProgress)]
    assert [(report.state, report.played_ms) for report in reports] == [
        ("playing", 20),
        ("playing", 220),
        ("playing", 420),
        ("drained", 600),
    ]


async def test_held_reply_resumes_at_the_held_packet_and_flushed_one_never() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        stamp = stamp_of(response)
        await server.say(stamp.audio(reply(100), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 5)
        await server.say(stamp.out_fact(HoldPlayout(turn_id=1)))
        records = await server.heard(
            lambda record: isinstance(record, PlayoutProgress) and record.state == "held"
        )
        held_at = records[-1].played_ms  # type: ignore[union-attr]
        silence_before = len(caller.received) - len(caller.voice)
        await caller.until(lambda: len(caller.received) - len(caller.voice) >= silence_before + 5)
        assert len(caller.voice) * 20 == held_at
        await server.say(stamp.out_fact(ResumePlayout(turn_id=1)))
        await caller.until(lambda: len(caller.voice) * 20 >= held_at + 100)
        await server.say(stamp.out_fact(FlushPlayout(turn_id=1)))
        await server.say(stamp.audio(reply(10, first=100), timestamp=100 * PACKET_SAMPLES, turn_id=1))
        await server.say(stamp.audio((voice(999),), timestamp=0, turn_id=2))
        await caller.until(lambda: voice(999) in caller.voice)
    heard = caller.voice[:-1]
    assert heard == list(reply(len(heard)))
    assert len(heard) < 100


async def test_reply_waits_for_a_caller_who_is_connecting() -> None:
    async with whip_server() as server:
        caller = Caller()
        response = await server.post(await caller.offer())
        await server.say(stamp_of(response).audio(reply(5), timestamp=0, turn_id=1))
        with anyio.move_on_after(0.1):
            await server.heard(lambda record: isinstance(record, PlayoutProgress))
            pytest.fail("the reply was played to nobody")
        await caller.connect(response.text)
        await server.heard(lambda record: isinstance(record, PlayoutProgress))
        await caller.close()


async def test_lost_packet_becomes_a_hole() -> None:
    async with whip_server() as server, calling(server) as (caller, _response):
        link = caller.link
        for index in range(8):
            if index == 4:
                link._sequence += 1
                link._timestamp += PACKET_SAMPLES
                continue
            link.send(voice(index))
        records = await server.heard(
            lambda record: isinstance(record, AudioRecord) and record.packets[-1] == voice(7)
        )
    packets = [packet for record in records if isinstance(record, AudioRecord) for packet in record.packets]
    assert packets == [b"" if index == 4 else voice(index) for index in range(8)]


async def test_deleted_session_says_so_and_leaves_nothing_behind() -> None:
    tasks = asyncio.all_tasks()
    async with whip_server() as server:
        # The first call loads what later ones find loaded.
        for _ in range(2):
            sockets, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
            async with calling(server, data=True) as (_caller, response):
                assert len(server.legs) == 1
                deleted = await server.http.delete(response.headers["Location"], headers={"If-Match": '"old"'})
                assert deleted.status_code == 200
                assert len(server.legs) == 0
                again = await server.http.delete(response.headers["Location"])
                assert again.status_code == 404
        assert len(os.listdir("/proc/self/fd")) == sockets
        assert threading.active_count() == threads
        records = await server.heard(lambda record: isinstance(record, EndCommand))
        assert records[-1] == EndCommand(reason="hung_up")
        assert server.door.story[:2] == [
            ("connected", server.door.opened[0]),
            ("ended", server.door.opened[0], "hung_up"),
        ]
    await anyio.lowlevel.checkpoint()
    assert asyncio.all_tasks() == tasks


async def test_ended_call_frees_what_openssl_kept_for_it_without_a_garbage_collection() -> None:
    gc.collect()
    gc.disable()
    try:
        async with whip_server() as server, calling(server) as (_caller, response):
            connections = [weakref.ref(each) for each in gc.get_objects() if isinstance(each, SSL.Connection)]
            await server.http.delete(response.headers["Location"])
            await anyio.wait_all_tasks_blocked()
            living = sum(connection() is not None for connection in connections)
            assert (len(connections), living) == (2, 1)  # the caller's own is left
    finally:
        gc.enable()


async def test_s02_caller_who_never_connects_is_gone_after_the_deadline() -> None:
    async with whip_server(setup_timeout_ms=100) as server:
        caller = Caller()
        response = await server.post(await caller.offer())
        assert response.status_code == 201
        records = await server.heard(lambda record: isinstance(record, EndCommand))
        assert records[-1] == EndCommand(reason="never_connected")
        assert (await server.http.get(response.headers["Location"])).status_code == 404
        await caller.close()


async def test_caller_who_hangs_up_without_delete_is_lost_but_the_session_stays() -> None:
    async with whip_server() as server:
        async with calling(server) as (_caller, response):
            pass
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1] == PeerLost(reason="closed_by_peer")
        assert response.headers["X-Session-ID"] in server.legs
        assert server.door.story[-1] == ("lost", response.headers["X-Session-ID"])


async def test_caller_without_rtp_is_lost() -> None:
    async with whip_server(silence_timeout_ms=100) as server, calling(server):
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1] == PeerLost(reason="no_rtp")


async def test_session_token_moves_the_conversation_to_a_new_peer() -> None:
    async with whip_server(max_sessions=1) as server, calling(server) as (first, response):
        first.link.send(voice(0))
        second = Caller()
        moved = await server.post(await second.offer(), X_Session_Token=response.headers["X-Session-Token"])
        assert moved.headers["X-Session-ID"] == response.headers["X-Session-ID"]
        link = await second.connect(moved.text)
        link.send(voice(1))
        records = await server.heard(
            lambda record: isinstance(record, AudioRecord) and record.packets[-1] == voice(1)
        )
        audio = [record for record in records if isinstance(record, AudioRecord)]
        assert [record.packets for record in audio] == [(voice(0),), (voice(1),)]
        assert audio[1].timestamp > audio[0].timestamp
        assert PeerLost(reason="replaced") in records
        assert (await server.http.get(response.headers["Location"])).status_code == 404
        assert (await server.http.get(moved.headers["Location"])).status_code == 204
        await second.close()


async def test_owner_closes_the_leg_without_an_end_command() -> None:
    async with whip_server() as server, calling(server) as (_caller, response):
        await server.say(stamp_of(response).out_fact(CloseLeg(reason="said_goodbye")))
        ended = ("ended", response.headers["X-Session-ID"], "said_goodbye")
        with anyio.fail_after(5):
            while ended not in server.door.story:
                await anyio.lowlevel.checkpoint()
        assert await server.bus.head(Stream.IN, 1) == 2


async def test_poison_record_is_dead_lettered_and_the_call_goes_on() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        stamp = stamp_of(response)
        await server.say(Record(stamp.session_id, b'{"v": 99}'))
        await server.say(stamp.audio((voice(1),), timestamp=0, turn_id=1))
        await caller.until(lambda: caller.voice == [voice(1)])
        async for stored in server.bus.read(Stream.DLQ, 0, 0):
            assert stored.record.value == b'{"v": 99}'
            assert dict(stored.record.headers)["stream"] == b"voxthread.out"
            break


async def test_send_only_caller_is_clocked_but_sent_nothing() -> None:
    async with whip_server() as server, calling(server, "sendonly") as (caller, response):
        stamp = stamp_of(response)
        await server.say(stamp.audio(reply(5), timestamp=0, turn_id=1))
        await server.say(stamp.out_fact(ReplyEnded(turn_id=1, total_ms=100)))
        records = await server.heard(
            lambda record: isinstance(record, PlayoutProgress) and record.state == "drained"
        )
        assert PeerConnected(receives_audio=False) in records
        assert caller.received == []


async def test_w36_a_restart_that_is_refused_leaves_the_call_as_it_was() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        restart = await server.http.patch(
            response.headers["Location"],
            content=fragment("newfrag"),
            headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"},
        )
        assert restart.status_code == 422
        caller.link.send(voice(0))
        await server.heard(lambda record: isinstance(record, AudioRecord) and voice(0) in record.packets)
        await server.say(stamp_of(response).audio(reply(3), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) == 3)


async def test_w40_a_session_that_ends_here_says_goodbye_and_answers_no_more_checks() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        dtls = dtls_of(caller.connection)
        closed = anyio.Event()
        dtls.on("statechange", lambda: closed.set() if dtls.state == "closed" else None)
        pair = nominated_pair(dtls)
        assert pair is not None
        await server.http.delete(response.headers["Location"])
        with anyio.fail_after(1):
            await closed.wait()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
            gone.bind(pair.remote_addr)


async def test_w41_a_peer_that_is_silently_gone_is_noticed_by_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.02)
    monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 1)
    monkeypatch.setattr("aioice.stun.RETRY_RTO", 0.05)
    async with whip_server() as server, calling(server) as (caller, _response):
        pair = nominated_pair(dtls_of(caller.connection))
        assert pair is not None
        pair.protocol.transport.abort()
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1] == PeerLost(reason="unreachable")


async def test_w41_a_peer_that_closes_dtls_is_gone_without_a_delete() -> None:
    async with whip_server() as server, calling(server) as (caller, _response):
        await dtls_of(caller.connection).stop()
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1] == PeerLost(reason="closed_by_peer")


@pytest.mark.parametrize("setup", ["actpass", "active", "passive"])
@pytest.mark.parametrize("kind", ["ec", "rsa"])
async def test_w16_a_peer_connects_in_either_role_and_with_either_kind_of_certificate(
    setup: str, kind: str
) -> None:
    caller = Caller()
    if kind == "rsa":
        use_rsa_certificate(caller.connection)
    async with whip_server() as server:
        offer = await caller.offer()
        if setup == "passive":  # aiortc takes its role from the answer, which is active then
            offer = offer.replace("a=setup:actpass", "a=setup:passive")
        response = await server.post(offer.replace("a=setup:actpass", f"a=setup:{setup}"))
        await caller.connect(response.text)
        await server.heard(lambda record: isinstance(record, PeerConnected))
        caller.link.send(voice(0))
        await server.heard(lambda record: isinstance(record, AudioRecord) and voice(0) in record.packets)
        await caller.close()


def use_rsa_certificate(connection: RTCPeerConnection) -> None:
    """As GStreamer's and simple-whip-client's are."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "rsa")])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.fromtimestamp(now_ms() / 1000, tz=datetime.UTC)
    certificate = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - day, now + day
    ).sign(key, hashes.SHA256())
    connection._RTCPeerConnection__certificates = [SharedCertificate(key, certificate)]  # type: ignore[attr-defined]
