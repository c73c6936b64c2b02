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

from aiortc import RTCDtlsTransport

from voxthread.media.aiortc_seams import SrtpWire
from voxthread.media.rtcp import SenderReport, build_sender_report, parse_report_blocks, round_trip_ms
from voxthread.media.rtp import OPUS_CLOCK_PER_MS, RtpPacket, build_rtp, parse_rtp
from voxthread.observability.clock import now_us

PACKET_SAMPLES = 20 * OPUS_CLOCK_PER_MS
"""Timestamp increment from one 20 ms packet to the next."""


class RtpLink:
    """One Opus stream each way.

    `on_packet(packet, arrival_us)` is called in the order of arrival, not of sequence; duplicates and
    replays are already gone. Packets of other payload types are counted in `other_packets`.
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
    ) -> None:
        self.loss_fraction: float | None = None
        self.round_trip_ms: int | None = None
        self.sent_packets = 0
        self.received_packets = 0
        self.other_packets = 0
        self.last_arrival_us: int | None = None
        self._payload_type = payload_type
        self._on_packet = on_packet
        self._ssrc = secrets.randbits(32) if ssrc is None else ssrc
        # The lower half keeps the first wrap, where SRTP peers lose their rollover count, far away.
        self._sequence = secrets.randbits(15)
        self._timestamp = secrets.randbits(32)
        self._sent_bytes = 0
        self._sent_at_us = 0
        self._wire = SrtpWire(dtls, self._receive, self._receive_report, self._note_arrival)

    @property
    def rejected_packets(self) -> int:
        """Datagrams that failed authentication or were malformed."""
        return self._wire.rejected

    def send(self, payload: bytes, timestamp_increment: int = PACKET_SAMPLES) -> bool:
        """Send one Opus packet that starts `timestamp_increment` 48 kHz samples after the one before.

        False when there is no path to the peer; the packet is then gone, and its time has passed.
        """
        self._timestamp += timestamp_increment
        packet = RtpPacket(
            self._payload_type,
            self._sequence,
            self._timestamp,
            self._ssrc,
            marker=not self.sent_packets or timestamp_increment != PACKET_SAMPLES,
            payload=payload,
        )
        if not self._wire.send_rtp(build_rtp(packet)):
            return False
        self._sequence += 1
        self.sent_packets += 1
        self._sent_bytes += len(payload)
        self._sent_at_us = now_us()
        return True

    def send_report(self) -> None:
        """Tell the peer how our timestamps map to time; does nothing before the first packet."""
        if not self.sent_packets:
            return
        now = now_us()
        elapsed_samples = (now - self._sent_at_us) * OPUS_CLOCK_PER_MS // 1000
        report = SenderReport(
            self._ssrc, now, self._timestamp + elapsed_samples, self.sent_packets, self._sent_bytes
        )
        self._wire.send_rtcp(build_sender_report(report, cname=b"%08x" % self._ssrc))

    def detach(self) -> None:
        """Stop receiving. Packets can no longer be sent once the peer connection is closed."""
        self._wire.detach()

    def _receive(self, data: bytes) -> None:
        packet = parse_rtp(data)
        arrival_us = self.last_arrival_us = now_us()
        if packet.payload_type != self._payload_type:
            self.other_packets += 1
            return
        self.received_packets += 1
        self._on_packet(packet, arrival_us)

    def _receive_report(self, data: bytes) -> None:
        self._note_arrival()
        for block in parse_report_blocks(data):
            if block.ssrc == self._ssrc:
                self.loss_fraction = block.fraction_lost
                trip = round_trip_ms(block, now_us())
                self.round_trip_ms = self.round_trip_ms if trip is None else trip

    def _note_arrival(self) -> None:
        self.last_arrival_us = now_us()
