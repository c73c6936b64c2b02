"""RTP over a connected DTLS transport: Opus payloads out, packets with their arrival time in.

    link = RtpLink(dtls, payload_type=111, on_packet=receive)
    link.send(opus_packet)                 # 20 ms after the packet before
    link.send(opus_packet, 4 * 960)        # after a silence: 80 ms after the packet before
    link.send_report()                     # each second or so
    link.detach()

Used by the server, and by the client over an `RTCPeerConnection` whose own media was taken over
(`aiortc_seams.take_over_media`, then `aiortc_seams.dtls_of` once it is connected). Starts no task.
"""

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from aiortc import RTCDtlsTransport

from voxthread.media.asking import Asking
from voxthread.media.reception import Reception
from voxthread.media.rtcp import (
    Missing,
    ReportBlock,
    SenderReport,
    build_nack,
    build_receiver_report,
    build_sender_report,
    parse_rtcp,
    round_trip_ms,
)
from voxthread.media.rtp import OPUS_CLOCK_PER_MS, RtpPacket, build_rtp, parse_rtp
from voxthread.media.sent_packets import SentPackets
from voxthread.media.srtp_wire import SrtpWire
from voxthread.observability.clock import now_us

PACKET_SAMPLES: Final = 20 * OPUS_CLOCK_PER_MS
"""Timestamp increment from one 20 ms packet to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Negotiated:
    """What both ends have agreed to in SDP, beyond Opus."""

    nack: bool = False
    """Lost packets are asked for, and sent again when asked for."""
    level_id: int = 0
    """Header extension of the audio level, 0 for none."""


NOTHING_MORE: Final = Negotiated()


class RtpLink:
    """One Opus stream each way.

    `on_packet(packet, arrival_us)` is called in the order of arrival, not of sequence; duplicates and
    replays are already gone. Packets of other payload types are counted in `other_packets`; those of the
    stream itself come without their payload, for they have used up a sequence number.
    `last_arrival_us` is when anything last came of the peer: audio, a report, a connectivity check.
    `loss_fraction` and `round_trip_ms` are what the peer reports of our stream, None until it does.
    """

    def __init__(
        self,
        dtls: RTCDtlsTransport,
        *,
        payload_type: int,
        on_packet: Callable[[RtpPacket, int], None],
        ssrc: int | None = None,
        negotiated: Negotiated = NOTHING_MORE,
    ) -> None:
        self.loss_fraction: float | None = None
        self.round_trip_ms: int | None = None
        self.sent_packets = 0
        self.received_packets = 0
        self.other_packets = 0
        self.recovered_packets = 0
        """Lost packets that came when they were asked for, of whatever source."""
        self.last_arrival_us: int | None = None
        self._payload_type = payload_type
        self._on_packet = on_packet
        self._negotiated = negotiated
        self._ssrc = secrets.randbits(32) if ssrc is None else ssrc
        self._cname = b"%08x" % self._ssrc
        # The lower half keeps the first wrap, where SRTP peers lose their rollover count, far away.
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self._sent_bytes = 0
        self._sent_at_us = 0
        self._sent = SentPackets()
        self._reception: Reception | None = None
        self._asking = Asking()
        self._wire = SrtpWire(dtls, self._receive, self._receive_report, self._note_arrival)

    @property
    def rejected_packets(self) -> int:
        """Datagrams that failed authentication or were malformed."""
        return self._wire.rejected

    @property
    def ignored_packets(self) -> int:
        """Datagrams beyond what is looked at, of strangers or of the peer."""
        return self._wire.ignored

    @property
    def is_flooded(self) -> bool:
        """Whether the peer has sent far more than a call has."""
        return self._wire.is_flooded

    @property
    def resent_packets(self) -> int:
        return self._sent.resent

    def send(
        self, payload: bytes, timestamp_increment: int = PACKET_SAMPLES, *, level: int | None = None
    ) -> bool:
        """Send one Opus packet that starts `timestamp_increment` 48 kHz samples after the one before.

        False when there is no path to the peer; the packet is then gone, and its time has passed.
        """
        self._timestamp += timestamp_increment
        packet = build_rtp(
            RtpPacket(
                self._payload_type,
                self._sequence,
                self._timestamp,
                self._ssrc,
                marker=not self.sent_packets or timestamp_increment != PACKET_SAMPLES,
                payload=payload,
                level=level,
            ),
            self._negotiated.level_id,
        )
        if not self._wire.send_rtp(packet):
            return False
        now = self._sent_at_us = now_us()
        if self._negotiated.nack:
            self._sent.add(self._sequence, packet, now // 1000)
        self._sequence += 1
        self.sent_packets += 1
        self._sent_bytes += len(payload)
        return True

    def send_report(self) -> None:
        """Tell the peer how our timestamps map to time, and how much of its stream arrives; nothing if neither
        side has sent any."""
        now = now_us()
        blocks = [self._reception.report(now)] if self._reception is not None else []
        if self.sent_packets:
            elapsed_samples = (now - self._sent_at_us) * OPUS_CLOCK_PER_MS // 1000
            report = SenderReport(
                self._ssrc, now, self._timestamp + elapsed_samples, self.sent_packets, self._sent_bytes
            )
            self._wire.send_rtcp(build_sender_report(report, blocks, self._cname))
        elif blocks:
            self._wire.send_rtcp(build_receiver_report(self._ssrc, blocks, self._cname))

    def detach(self) -> None:
        """Stop receiving. Packets can no longer be sent once the peer connection is closed."""
        self._wire.detach()

    def _receive(self, data: bytes) -> None:
        packet = parse_rtp(data, self._negotiated.level_id)
        arrival_us = self.last_arrival_us = now_us()
        reception = self._reception
        if packet.payload_type != self._payload_type:
            self.other_packets += 1
            if reception is None or packet.ssrc != reception.ssrc:
                return
            packet = packet._replace(payload=b"", level=None)
        else:
            self.received_packets += 1
        if reception is None or packet.ssrc != reception.ssrc:
            reception = self._reception = Reception(packet.ssrc)
            self._asking = Asking()
        if not (self._negotiated.nack and self._was_asked_for(packet, reception, arrival_us // 1000)):
            reception.received(packet.sequence, packet.timestamp, arrival_us)
        self._on_packet(packet, arrival_us)

    def _was_asked_for(self, packet: RtpPacket, reception: Reception, now_ms: int) -> bool:
        """Whether the packet was lost, and sent again. The report then says that it was lost, for the caller's
        encoder to know how the line is."""
        asking, trip_ms = self._asking, self.round_trip_ms
        is_answer = asking.arrived(packet.sequence, now_ms, round_trip_ms=trip_ms)
        self.recovered_packets += is_answer
        if asking.has_holes:
            due = asking.due(now_ms, round_trip_ms=trip_ms, jitter_ms=reception.jitter_ms)
            if due:
                self._wire.send_rtcp(build_nack(self._ssrc, packet.ssrc, due, self._cname))
        return is_answer

    def _receive_report(self, data: bytes) -> None:
        now = self._note_arrival()
        compound = parse_rtcp(data)
        for sender in compound.senders:
            if self._reception is not None and sender.ssrc == self._reception.ssrc:
                self._reception.sender_reported(sender.compact_ntp, now)
        for block in compound.blocks:
            self._learn(block, now)
        if self._negotiated.nack:
            for missing in compound.missing:
                self._send_again(missing, now // 1000)

    def _learn(self, block: ReportBlock, now: int) -> None:
        if block.ssrc == self._ssrc:
            self.loss_fraction = block.fraction_lost
            trip_ms = round_trip_ms(block, now)
            self.round_trip_ms = self.round_trip_ms if trip_ms is None else trip_ms

    def _send_again(self, missing: Missing, now_ms: int) -> None:
        if missing.ssrc == self._ssrc:
            packet = self._sent.again(missing.sequence, now_ms)
            if packet is not None:
                self._wire.send_rtp(packet)

    def _note_arrival(self) -> int:
        now = self.last_arrival_us = now_us()
        return now
