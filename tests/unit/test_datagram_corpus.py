"""Fuzzing of all that reads datagrams before or behind SRTP: the corpus, and whatever is like it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxthread.media.datagrams import Kind, kind_of
from voxthread.media.opus_packets import packet_samples
from voxthread.media.reception import Reception
from voxthread.media.rtcp import MAX_MISSING, parse_rtcp
from voxthread.media.rtp import MalformedPacketError, parse_rtp
from voxthread.media.uplink import MAX_DRIFT_MS, Uplink

pytestmark = pytest.mark.unit

CORPUS = {
    name: bytes.fromhex(data)
    for name, _, data in (
        line.partition(" ")
        for line in (Path(__file__).parents[1] / "data" / "datagrams.txt").read_text().splitlines()
        if not line.startswith("#")
    )
}
MALFORMED = {
    "rtp.csrc_cut",
    "rtp.cut",
    "rtp.extension_longer_than_packet",
    "rtp.padding_too_long",
    "rtcp.header_cut",
    "rtcp.longer_than_datagram",
    "rtcp.report_of_nobody",
    "rtcp.too_many_blocks",
}
LEVELS = {"rtp.level": 30, "rtp.level_two_byte": 30, "rtp.all_at_once": 30}

Edit = Callable[[bytes], bytes]
places = st.integers(0, 1500)
edits: st.SearchStrategy[Edit] = st.one_of(
    st.builds(
        lambda at, byte: lambda data: data[:at] + bytes((byte,)) + data[at + 1 :], places, st.integers(0, 255)
    ),
    st.builds(lambda at: lambda data: data[:at], places),
    st.builds(lambda at, more: lambda data: data[:at] + more + data[at:], places, st.binary(max_size=40)),
    st.builds(lambda start, end: lambda data: data + data[start:end], places, places),
    st.builds(lambda other: lambda data: data + other, st.sampled_from([*CORPUS.values()])),
)


@st.composite
def datagrams(draw: st.DrawFn) -> bytes:
    data = draw(st.sampled_from([*CORPUS.values()]))
    for edit in draw(st.lists(edits, max_size=4)):
        data = edit(data)
    return data[:1500]


@pytest.mark.parametrize("name", CORPUS)
def test_kept_datagram_is_what_it_is_kept_as(name: str) -> None:
    data, kind = CORPUS[name], kind_of(CORPUS[name])
    assert (
        kind is (Kind.OTHER if name.startswith("turn.") else Kind(name.partition(".")[0]))
        or name == "other.zero"
    )
    if kind not in (Kind.RTP, Kind.RTCP):
        return
    parse = parse_rtcp if kind is Kind.RTCP else parse_rtp
    if name in MALFORMED:
        with pytest.raises(MalformedPacketError):
            parse(data)
    elif kind is Kind.RTP:
        assert parse_rtp(data, 1).level == LEVELS.get(name)
    else:
        assert parse(data)


@settings(max_examples=500)
@given(datagrams(), st.integers(0, 14))
def test_anything_like_a_packet_is_read_in_bounds_or_refused(data: bytes, level_id: int) -> None:
    kind_of(data)
    packet_samples(data)
    try:
        packet = parse_rtp(data, level_id)
    except MalformedPacketError:
        pass
    else:
        assert len(packet.payload) <= len(data) - 12
        assert packet.level is None or 0 <= packet.level <= 127
    try:
        compound = parse_rtcp(data)
    except MalformedPacketError:
        return
    assert len(compound.blocks) * 24 + len(compound.senders) * 24 <= len(data)
    assert len(compound.missing) <= MAX_MISSING


@settings(max_examples=200)
@given(st.lists(st.tuples(datagrams(), st.integers(0, 400)), max_size=30))
def test_any_packets_in_a_row_leave_a_timeline_without_overlaps(arrivals: list[tuple[bytes, int]]) -> None:
    """As of a peer that has the keys and no scruples."""
    uplink, reception, now_ms, batches = Uplink(), Reception(3), 0, []
    for data, pause_ms in arrivals:
        now_ms += pause_ms
        batches += uplink.handle_deadline(now_ms, batch_ms=20)
        try:
            packet = parse_rtp(data, 1)
        except MalformedPacketError:
            continue
        reception.received(packet.sequence, packet.timestamp, now_ms * 1000)
        batches += uplink.handle(packet, now_ms, batch_ms=20)
    batches += uplink.end_source(now_ms)
    reception.report(now_ms * 1000)
    end = 0
    for batch in batches:
        assert batch.timestamp >= end
        end = batch.timestamp + len(batch.packets) * batch.packet_ms * 48
        assert len(batch.packets) * batch.packet_ms <= 2 * MAX_DRIFT_MS + 6_000
