"""One caller: from its offer to the last packet it speaks. Driven by a `Crowd`; no task, no thread."""

import secrets
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from voxthread.client.failures import BenchError
from voxthread.media.datagrams import Kind, kind_of
from voxthread.media.opus_packets import SILENCE
from voxthread.media.rtcp import Compound, ReportBlock, SenderReport, build_sender_report, parse_rtcp
from voxthread.media.rtp import RtpPacket, build_rtp
from voxthread.media_bench.bad_line import BadLine
from voxthread.media_bench.dtls import DtlsCaller, DtlsIdentity, Srtp
from voxthread.media_bench.ice import IceCaller, IceCredentials
from voxthread.media_bench.offer import Answer, read_answer, write_offer
from voxthread.media_bench.plan import PACKET_TICKS, PACKET_US, Call, instant_us
from voxthread.observability.clock import now_us

UNDISTURBED: Final = 25
"""Packets before the line turns bad: with the first of them the server's timeline begins."""

_KEPT: Final = 50
"""Packets that can be sent again, a second of them."""

_RETRY_US: Final = 200_000
_REPORT_PACKETS: Final = 50
_CNAME: Final = b"caller"
_RTP_HEADER_BYTES: Final = 12
_RECEIVE_BYTES: Final = 2048
_BUFFER_BYTES: Final = 1024 * 1024

Later = Callable[[int, Callable[[int], None]], None]
"""Have something called at an instant, with that instant."""


class Caller:
    """It speaks `wait_us` after it is connected. `later` is the crowd's clock; `call` is what is measured."""

    def __init__(
        self,
        identity: DtlsIdentity,
        addresses: Sequence[str],
        track: tuple[int, Sequence[bytes]],
        line: BadLine | None,
        *,
        wait_us: int,
        nack: bool,
        later: Later,
    ) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        self.socket.setblocking(False)
        self.socket.bind(("0.0.0.0", 0))
        self.location = ""
        """Where to hang up, and the token that allows it."""
        self.token = ""
        self.call = Call(session_id="", track=track[0])
        self._packets = track[1]
        self._line = line
        self._wait_us = wait_us
        self._later = later
        self._own_ice = IceCredentials()
        self._dtls = DtlsCaller(identity)
        self._ssrc = secrets.randbits(31)
        self._sequence = secrets.randbits(15)
        self._sent_packets = 0
        self._sent_bytes = 0
        self._kept: dict[int, bytes] = {}
        self._posted_us = 0
        self._is_over = False
        self._ice: IceCaller | None = None
        self._answer: Answer | None = None
        self._srtp: Srtp | None = None
        self._silent_bytes = 0
        """Of a packet that holds nothing but the silence that keeps a line alive."""
        self._source: tuple[int, int, int] | None = None
        """SSRC of the server, the compact time of its last report, and when that came."""
        self.offer = write_offer(
            self._own_ice,
            identity.fingerprint,
            addresses,
            self.socket.getsockname()[1],
            ssrc=self._ssrc,
            nack=nack,
        )

    @property
    def has_media(self) -> bool:
        return self.call.media_after_us is not None

    @property
    def server(self) -> tuple[str, int]:
        """Where it sends to."""
        assert self._answer is not None
        return self._answer.address

    def connect(self, sdp: str, *, posted_us: int) -> None:
        """Begin the checks. Raises `BenchError`."""
        self._posted_us = posted_us
        self._answer = read_answer(sdp)
        self._ice = IceCaller(self._own_ice, self._answer.ice)
        self.socket.connect(self._answer.address)
        self._check(instant_us())

    def close(self) -> None:
        self._is_over = True
        self.socket.close()

    def receive(self) -> None:
        """Take one datagram. Raises `BenchError`."""
        try:
            datagram = self.socket.recv(_RECEIVE_BYTES)
        except (BlockingIOError, ConnectionRefusedError):
            return
        arrived_us = instant_us()
        match kind_of(datagram):
            case Kind.RTP:
                self._hear(datagram, arrived_us)
            case Kind.RTCP:
                self._read_report(datagram, arrived_us)
            case Kind.STUN:
                self._answer_check(datagram)
            case Kind.DTLS:
                self._shake_hands(self._dtls.advance(datagram))
            case Kind.OTHER:
                pass

    def _hear(self, datagram: bytes, arrived_us: int) -> None:
        """Only the header is read, which is not encrypted: that leaves the callers time to be punctual."""
        call = self.call
        if call.media_after_us is None:
            call.media_after_us = arrived_us - self._posted_us
        if len(datagram) > self._silent_bytes:
            call.heard_us.append(arrived_us)
            call.heard_ticks.append(int.from_bytes(datagram[4:8]))

    def _answer_check(self, datagram: bytes) -> None:
        assert self._ice is not None
        assert self._answer is not None
        was_checked = self._ice.is_checked
        response = self._ice.receive(datagram, self._answer.address)
        if response is not None:
            self._send_now(response)
        if self._ice.is_checked and not was_checked:
            self._shake_hands(self._dtls.advance())
            self._later(instant_us() + _RETRY_US, self._shake_again)

    def _check(self, due_us: int) -> None:
        assert self._ice is not None
        if not self._ice.is_checked and not self._is_over:
            self._send_now(self._ice.check())
            self._later(due_us + _RETRY_US, self._check)

    def _shake_again(self, due_us: int) -> None:
        if not self._dtls.is_done and not self._is_over:
            self._shake_hands(self._dtls.again())
            self._later(due_us + _RETRY_US, self._shake_again)

    def _shake_hands(self, datagrams: Iterator[bytes]) -> None:
        for datagram in datagrams:
            self._send_now(datagram)
        if self._dtls.is_done and self._srtp is None:
            self._srtp = self._dtls.srtp()
            self._silent_bytes = _RTP_HEADER_BYTES + len(SILENCE) + self._srtp.tag_bytes
            self._later(instant_us() + self._wait_us, self._speak)

    def _speak(self, due_us: int) -> None:
        """The packet of this instant, then wait for the next."""
        if self._is_over:
            return
        assert self._srtp is not None
        assert self._answer is not None
        number = self._sent_packets
        payload = self._packets[number % len(self._packets)]
        packet = RtpPacket(
            self._answer.payload_type,
            self._sequence + number,
            number * PACKET_TICKS,
            self._ssrc,
            marker=not number,
            payload=payload,
        )
        protected = self._srtp.outbound.protect(build_rtp(packet))
        self.call.sent_us.append(instant_us())
        self._put(protected, is_disturbed=number >= UNDISTURBED)
        self._kept[(self._sequence + number) & 0xFFFF] = protected
        if len(self._kept) > _KEPT:
            del self._kept[next(iter(self._kept))]
        self._sent_packets += 1
        self._sent_bytes += len(payload)
        if number % _REPORT_PACKETS == 0:
            self._report()
        self._later(due_us + PACKET_US, self._speak)

    def _report(self) -> None:
        assert self._srtp is not None
        blocks = []
        if self._source is not None:
            ssrc, last_sr, came_us = self._source
            since = (instant_us() - came_us) * 65536 // 1_000_000
            blocks.append(ReportBlock(ssrc, 0.0, 0, 0, 0, last_sr, since))
        report = SenderReport(
            self._ssrc, now_us(), self._sent_packets * PACKET_TICKS, self._sent_packets, self._sent_bytes
        )
        datagram = self._srtp.outbound.protect_rtcp(build_sender_report(report, blocks, _CNAME))
        self._put(datagram, is_disturbed=self._sent_packets > UNDISTURBED)

    def _read_report(self, datagram: bytes, arrived_us: int) -> None:
        if self._srtp is None:
            return
        compound: Compound = parse_rtcp(self._srtp.inbound.unprotect_rtcp(datagram))
        for sender in compound.senders:
            self._source = (sender.ssrc, sender.compact_ntp, arrived_us)
        for missing in compound.missing:
            protected = self._kept.get(missing.sequence)
            if protected is not None and missing.ssrc == self._ssrc:
                self.call.resent += 1
                self._put(protected, is_disturbed=True)

    def _put(self, datagram: bytes, *, is_disturbed: bool) -> None:
        """Onto the line."""
        delay_us = self._line.carry() if self._line is not None and is_disturbed else 0
        if delay_us == 0:
            self._send_now(datagram)
        elif delay_us is not None:
            self._later(instant_us() + delay_us, lambda _due_us: self._send_now(datagram))

    def _send_now(self, datagram: bytes) -> None:
        if self._is_over:
            return
        try:
            self.socket.send(datagram)
        except ConnectionRefusedError as error:
            raise BenchError("bench.port_closed", f"the server has closed a port of a call: {error}") from None
