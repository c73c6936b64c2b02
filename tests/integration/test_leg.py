"""A session at its media process: callers lost and found, moves between processes, a log that is away."""

from collections.abc import AsyncGenerator, Callable

import anyio
import pytest

from integration.whip_call import PARTITION, Caller, Server, calling, stamp_of, whip_server
from voxthread.bus.memory import MemoryBus
from voxthread.core.failures import BusError, MediaError
from voxthread.media.link import PACKET_SAMPLES, Negotiated
from voxthread.media.opus_packets import SILENCE
from voxthread.media.voice_hint import LOUD_PACKETS
from voxthread.wire.audio import AudioRecord, decode_audio, is_audio
from voxthread.wire.control import decode_control
from voxthread.wire.facts import (
    EndCommand,
    InFact,
    LegResumed,
    PeerConnected,
    PeerHeard,
    PeerLost,
    PeerSilent,
    PlayoutProgress,
    ReplyEnded,
    RewindPlayout,
    SessionOpened,
    TextCommand,
    decode_in_fact,
)
from voxthread.wire.log import Record, StoredRecord, Stream
from voxthread.wire.stamp import Stamp

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

SESSION_ID = "session_1753590741399040_5cc15fe6"
RESUMED = LegResumed(media_id="media-2")
OPENED = SessionOpened(agent="echo", principal="alice", via="whip", created_at_ms=0)


def voice(index: int) -> bytes:
    return b"\xf8" + f"packet {index}".encode()


def reply(count: int, first: int = 0) -> tuple[bytes, ...]:
    return tuple(voice(index) for index in range(first, first + count))


def is_a(*kinds: type) -> Callable[[InFact | AudioRecord], bool]:
    return lambda record: isinstance(record, kinds)


async def until_silence(caller: Caller) -> None:
    """Until a while of nothing but the silence that keeps the line alive."""
    await caller.until(lambda: all(packet.payload == SILENCE for packet in caller.received[-5:]))


# -- callers who fall silent -----------------------------------------------------------------------------


async def test_silent_caller_is_told_of_played_nothing_and_heard_again() -> None:
    async with (
        whip_server(silent_after_ms=200, pause_after_ms=400) as server,
        calling(server) as (caller, response),
    ):
        await server.say(stamp_of(response).audio(reply(200), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 5)
        caller.link.send(voice(0))
        silent = (await server.heard(is_a(PeerSilent)))[-1]
        assert isinstance(silent, PeerSilent)
        assert silent.turn_id == 1
        assert silent.heard_ms is not None
        assert 100 <= silent.heard_ms <= len(caller.voice) * 20 - 100
        await until_silence(caller)
        played = len(caller.voice)
        assert played < 100
        caller.link.send(voice(1))
        await server.heard(is_a(PeerHeard))
        await caller.until(lambda: len(caller.voice) > played + 3)
    assert caller.voice == list(reply(len(caller.voice)))


async def test_muted_caller_who_sends_reports_is_there() -> None:
    async with whip_server(silent_after_ms=150) as server, calling(server) as (caller, _response):
        caller.link.send(voice(0))

        async def report() -> None:
            while True:
                caller.link.send_report()
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            with anyio.move_on_after(0.5):
                await server.heard(is_a(PeerSilent))
                pytest.fail("a caller who sends reports is there")
            tasks.cancel_scope.cancel()
        await server.heard(is_a(PeerSilent))


async def test_lost_caller_misses_nothing_of_the_reply() -> None:
    async with whip_server() as server:
        async with calling(server) as (caller, response):
            stamp = stamp_of(response)
            await server.say(stamp.audio(reply(50), timestamp=0, turn_id=1))
            await caller.until(lambda: len(caller.voice) >= 10)
            caller.link.send(voice(0))
            await server.heard(is_a(AudioRecord))
        lost = (await server.heard(is_a(PeerLost)))[-1]
        assert isinstance(lost, PeerLost)
        assert lost.heard_ms is not None
        assert (lost.reason, lost.turn_id) == ("closed_by_peer", 1)
        assert 200 <= lost.heard_ms <= len(caller.voice) * 20 + 40
        nobody_ms = lost.heard_ms + 400
        with anyio.move_on_after(0.7):
            await server.heard(
                lambda record: isinstance(record, PlayoutProgress) and record.played_ms > nobody_ms
            )
            pytest.fail("the reply was played to nobody")

        again = Caller()
        token = response.headers["X-Session-Token"]
        answer = await server.post(await again.offer(), X_Session_Token=token)
        await again.connect(answer.text)
        await server.say(stamp.out_fact(RewindPlayout(turn_id=1, to_ms=lost.heard_ms)))
        first = lost.heard_ms // 20
        await server.say(stamp.audio(reply(60 - first, first), timestamp=first * PACKET_SAMPLES, turn_id=1))
        await server.say(stamp.out_fact(ReplyEnded(turn_id=1, total_ms=1_200)))
        drained = await server.heard(
            lambda record: isinstance(record, PlayoutProgress) and record.state == "drained"
        )
        assert drained[-1].played_ms == 1_200  # type: ignore[union-attr]
        await again.until(lambda: again.voice[-(60 - first) :] == list(reply(60 - first, first)))
        await again.close()


# -- from one media process to another -------------------------------------------------------------------


async def stamps(server: Server) -> list[tuple[int, int]]:
    """Epoch and sequence number of every record on `voxthread.in`."""
    read: list[tuple[int, int]] = []
    head = await server.bus.head(Stream.IN, PARTITION)
    async for stored in server.bus.read(Stream.IN, PARTITION, 0):
        value = stored.record.value
        record = decode_audio(value) if is_audio(value) else decode_in_fact(value)
        read.append((record.epoch, record.seq))
        if stored.position == head - 1:
            break
    return read


async def test_resumed_leg_goes_on_under_its_epoch_from_where_the_owner_says() -> None:
    async with whip_server() as server:
        await server.legs.resume_leg(SESSION_ID, PARTITION, 7, RESUMED)
        caller, stamp = Caller(), Stamp(SESSION_ID, epoch=3)
        await server.say(stamp.audio(reply(5, first=90), timestamp=90 * PACKET_SAMPLES, turn_id=4))
        answer = await server.post(await caller.offer(), X_Session_Token=f"vst_{SESSION_ID}")
        await server.say(stamp.out_fact(RewindPlayout(turn_id=4, to_ms=1_000)))
        await caller.connect(answer.text)
        await server.say(stamp.audio(reply(5, first=50), timestamp=50 * PACKET_SAMPLES, turn_id=4))
        progress = (await server.heard(is_a(PlayoutProgress)))[-1]
        assert isinstance(progress, PlayoutProgress)
        assert (progress.turn_id, progress.played_ms) == (4, 1_020)
        await caller.until(lambda: len(caller.voice) == 5)
        assert caller.voice == list(reply(5, first=50))
        assert (await server.heard(is_a(PlayoutProgress)))[:2] == [RESUMED, PeerConnected(receives_audio=True)]
        assert [epoch for epoch, _ in await stamps(server)] == [7] * 3
        assert (await stamps(server))[0] == (7, 1)
        await caller.close()


async def test_resumed_leg_whose_caller_never_connects_stays_for_the_next_try() -> None:
    async with whip_server(setup_timeout_ms=100) as server:
        await server.legs.resume_leg(SESSION_ID, PARTITION, 7, RESUMED)
        caller = Caller()
        await server.post(await caller.offer(), X_Session_Token=f"vst_{SESSION_ID}")
        with anyio.fail_after(5):
            while server.door.story != [("lost", SESSION_ID)]:
                await anyio.lowlevel.checkpoint()
        assert SESSION_ID in server.legs
        assert await server.bus.head(Stream.IN, PARTITION) == 1
        await caller.close()


async def test_session_that_is_here_is_not_resumed_again() -> None:
    async with whip_server(max_sessions=1) as server:
        await server.legs.resume_leg(SESSION_ID, PARTITION, 7, RESUMED)
        with pytest.raises(MediaError) as refused:
            await server.legs.resume_leg(SESSION_ID, PARTITION, 9, RESUMED)
        assert refused.value.code == "media.session_exists"
        with pytest.raises(MediaError) as refused:
            await server.legs.resume_leg(SESSION_ID[:-1] + "7", PARTITION, 9, RESUMED)
        assert refused.value.code == "media.full"
        assert refused.value.retryable


async def gone(caller: Caller) -> None:
    with anyio.fail_after(5):
        while caller.connection.connectionState != "closed":
            await anyio.lowlevel.checkpoint()


async def test_moved_session_disconnects_without_a_word_and_may_come_back() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        session_id = response.headers["X-Session-ID"]
        server.legs.move(session_id)
        server.legs.move(SESSION_ID)
        await server.legs.resume_leg(session_id, PARTITION, 9, RESUMED)
        await gone(caller)
        records = await server.heard(is_a(LegResumed))
        assert records == [
            SessionOpened(agent="echo", principal="anonymous_1", via="whip", created_at_ms=0),
            PeerConnected(receives_audio=True),
            RESUMED,
        ]
        assert session_id in server.legs
        assert server.door.story == [("connected", session_id)]


async def test_handed_over_session_tells_how_much_was_heard_and_lives() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        await server.say(stamp_of(response).audio(reply(50), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 10)
        caller.link.send(voice(0))
        await server.heard(is_a(AudioRecord))
        await server.legs.hand_over_all("media_stopping")
        lost = (await server.heard(is_a(PeerLost, EndCommand)))[-1]
        assert isinstance(lost, PeerLost)
        assert (lost.reason, lost.turn_id) == ("media_stopping", 1)
        assert lost.heard_ms is not None
        assert lost.heard_ms >= 200
        await gone(caller)
        assert len(server.legs) == 0
        assert server.door.story == [("connected", response.headers["X-Session-ID"])]
        assert not server.legs.has_room()
        with pytest.raises(MediaError, match="taken"):
            await server.legs.open_leg(SESSION_ID, PARTITION, OPENED)


# -- owners that fall silent -----------------------------------------------------------------------------


async def test_reply_that_does_not_go_on_makes_its_owner_suspected() -> None:
    async with whip_server(suspects_owners=True) as server, calling(server) as (_caller, response):
        await server.say(stamp_of(response).audio(reply(5), timestamp=0, turn_id=1))
        with anyio.fail_after(5):
            async for stored in server.bus.read(Stream.CONTROL, 0, 0):
                suspicion = decode_control(stored.record.value)
                break
        assert (suspicion.session_id, suspicion.partition, suspicion.epoch) == (  # type: ignore[union-attr]
            response.headers["X-Session-ID"],
            PARTITION,
            1,
        )


# -- a log that is away ----------------------------------------------------------------------------------


class AwayBus(MemoryBus):
    """A log that this process cannot reach at times; `MemoryBus.append` is what others write to it."""

    is_away = False

    async def append(self, stream: Stream, partition: int, record: Record) -> int:
        self._check()
        return await super().append(stream, partition, record)

    async def read(
        self, stream: Stream, partition: int, from_position: int
    ) -> AsyncGenerator[StoredRecord, None]:
        async for stored in super().read(stream, partition, from_position):
            self._check()
            yield stored

    def _check(self) -> None:
        if self.is_away:
            raise BusError("bus.away", "no broker answers", retryable=True)


async def test_call_outlives_its_log_and_loses_nothing() -> None:
    bus = AwayBus(2)

    async def owner_says(record: Record) -> None:
        await MemoryBus.append(bus, Stream.OUT, PARTITION, record)

    async with whip_server(bus=bus) as server, calling(server) as (caller, response):
        stamp = stamp_of(response)
        await server.say(stamp.audio(reply(60), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 5)
        bus.is_away = True
        for index in range(30):
            caller.link.send(voice(index))
        await server.legs.send(stamp.session_id, TextCommand(text="told in between"))
        for index in range(30, 60):
            caller.link.send(voice(index))
        await owner_says(stamp.audio(reply(20, first=60), timestamp=60 * PACKET_SAMPLES, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 50)
        await owner_says(stamp.audio(reply(20, first=80), timestamp=80 * PACKET_SAMPLES, turn_id=1))
        assert await bus.head(Stream.IN, PARTITION) < 10
        bus.is_away = False
        await owner_says(stamp.out_fact(ReplyEnded(turn_id=1, total_ms=2_000)))
        await server.heard(lambda record: isinstance(record, PlayoutProgress) and record.state == "drained")
        await caller.until(lambda: len(caller.voice) == 100)
        records = await server.heard(lambda r: isinstance(r, AudioRecord) and r.packets[-1] == voice(59))
        written = await stamps(server)
    assert caller.voice == list(reply(100))
    heard = [packet for r in records if isinstance(r, AudioRecord) for packet in r.packets]
    assert heard == list(reply(60))
    assert written == [(0, seq) for seq in range(1, len(written) + 1)]


async def test_hand_over_from_a_log_that_stays_away_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxthread.media.leg._LAST_WORDS_S", 0.2)
    bus = AwayBus(2)
    async with whip_server(bus=bus) as server, calling(server) as (caller, _response):
        bus.is_away = True
        with anyio.fail_after(3):
            await server.legs.hand_over_all("media_stopping")
        await gone(caller)
        assert len(server.legs) == 0


# -- callers who speak over the agent --------------------------------------------------------------------


async def test_reply_gives_way_to_a_loud_caller_at_once_and_goes_on_if_their_owner_hears_nothing() -> None:
    async with whip_server() as server, calling(server) as (caller, response):
        caller.link._negotiated = Negotiated(level_id=2)  # which aiortc offers
        await server.say(stamp_of(response).audio(reply(200), timestamp=0, turn_id=1))
        await caller.until(lambda: len(caller.voice) >= 5)
        played = len(caller.voice)
        for index in range(LOUD_PACKETS):
            caller.link.send(voice(index), level=20)
        await until_silence(caller)
        assert len(caller.voice) - played <= 3
        await caller.until(lambda: len(caller.voice) >= 20)
        told = await server.heard(lambda record: is_a(PlayoutProgress)(record) and told_ms(record) >= 300)
    assert caller.voice == list(reply(len(caller.voice)))
    states = [record.state for record in told if isinstance(record, PlayoutProgress)]
    assert states[-2:] == ["playing", "playing"]
    assert states.count("giving_way") == 1


def told_ms(record: InFact | AudioRecord) -> int:
    return record.played_ms if isinstance(record, PlayoutProgress) else 0


# -- callers who send nothing for a while ----------------------------------------------------------------


async def test_caller_who_is_muted_is_silent_on_the_log_while_time_passes() -> None:
    async with whip_server() as server, calling(server) as (caller, _):
        for index in range(3):
            caller.link.send(voice(index))
        records = await server.heard(lambda record: silent_ms(record) > 0)
        more = await server.heard(lambda record: silent_ms(record) > 0 and record.timestamp > 1_000 * 48)
    assert sum(silent_ms(record) for record in records) >= 192
    heard = [record for record in more if isinstance(record, AudioRecord)]
    assert heard[0].packets == tuple(voice(index) for index in range(3))
    assert sum(silent_ms(record) for record in heard) >= 900


def silent_ms(record: InFact | AudioRecord) -> int:
    return record.packets.count(SILENCE) * 20 if isinstance(record, AudioRecord) else 0
