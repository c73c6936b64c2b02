"""What goes to the caller on each tick: the reply, or as little silence as keeps the line alive."""

import secrets
from typing import Final

from voxthread.media.link import PACKET_SAMPLES, RtpLink
from voxthread.media.opus_packets import SILENCE

TRAILING_SILENCE_TICKS: Final = 5
"""Packets of silence after speech, so that a lost one does not leave the last sound hanging."""

KEEPALIVE_TICKS: Final = 20
"""A packet of silence each 400 ms, as Opus DTX does: players keep their clock, NATs their mapping."""

MAX_GAP_TICKS: Final = 5
"""A reply that runs dry for less leaves a gap, which the caller's decoder bridges. Silence would reset it, and
what follows of the reply is encoded for one that was not (measured: a tone may come out four times as loud)."""

REPORT_TICKS: Final = 50


class Downlink:
    """Sends on one link. A peer that receives no audio is sent reports only, though its playout is clocked."""

    def __init__(self, link: RtpLink, *, receives_audio: bool) -> None:
        self.link = link
        self._receives_audio = receives_audio
        self._ticks_since_packet = 0
        self._silent_ticks = 0
        self._gap_ticks = 0
        # Spreads the reports of many sessions over the second.
        self._ticks_to_report = 1 + secrets.randbelow(REPORT_TICKS)

    def tick(self, packet: bytes | None, ticks: int) -> None:
        """Send `packet`, `ticks` times 20 ms after the tick before.

        An empty one is a gap in a reply that goes on, None is silence.
        """
        if self._receives_audio:
            self._send_audio(packet, ticks)
        self._ticks_to_report -= 1
        if not self._ticks_to_report:
            self._ticks_to_report = REPORT_TICKS
            self.link.send_report()

    def _send_audio(self, packet: bytes | None, ticks: int) -> None:
        self._ticks_since_packet += ticks
        if packet:
            self._silent_ticks = self._gap_ticks = 0
            self._send(packet)
        elif packet is not None and self._gap_ticks < MAX_GAP_TICKS:
            self._gap_ticks += 1
        else:
            if self._silent_ticks < TRAILING_SILENCE_TICKS or self._silent_ticks % KEEPALIVE_TICKS == 0:
                self._send(SILENCE)
            self._silent_ticks += 1

    def _send(self, packet: bytes) -> None:
        self.link.send(packet, self._ticks_since_packet * PACKET_SAMPLES)
        self._ticks_since_packet = 0
