"""A connected caller of one session: what it is sent, and whether it is there to hear it."""

import msgspec

from voxthread.media.downlink import Downlink
from voxthread.media.link import RtpLink
from voxthread.media.playout import Played
from voxthread.media.presence import Presence
from voxthread.media.settings import MediaSettings
from voxthread.media.tally import tally_of_link
from voxthread.observability.clock import now_ms
from voxthread.wire.facts import PeerHeard, PeerLost, PeerSilent, PlayoutProgress


class Line:
    """`heard` is what the caller had heard before over another line."""

    def __init__(self, link: RtpLink, settings: MediaSettings, *, receives_audio: bool, heard: Played) -> None:
        self._link = link
        self._downlink = Downlink(link, receives_audio=receives_audio)
        self._tally = tally_of_link(link)
        self._presence = Presence(settings, now_ms(), heard)
        self._arrival_us: int | None = None

    @property
    def heard(self) -> Played:
        return self._presence.heard

    def is_over(self, link: RtpLink) -> bool:
        """Whether the line goes over this link."""
        return self._link is link

    def send(self, packet: bytes | None, ticks: int) -> None:
        """As `Downlink.tick`."""
        self._downlink.tick(packet, ticks)
        self._tally.count()

    def attend(self, now: int, played: Played) -> PeerHeard | PeerSilent | None:
        """See whether the caller is there; what of that is news.

        Called before anything more is played: what came since the last call came when so much was played.
        """
        if self._link.last_arrival_us == self._arrival_us or self._link.last_arrival_us is None:
            return self._presence.notice(now)
        self._arrival_us = self._link.last_arrival_us
        return self._presence.arrived(self._arrival_us // 1000, played)

    def is_listening(self, now: int) -> bool:
        return self._presence.is_listening(now)

    def trouble(self, now: int) -> str | None:
        """Why the line is to be given up."""
        if self._link.is_flooded:
            return "flood"
        return "no_rtp" if self._presence.is_gone(now) else None

    def lost(self, reason: str) -> PeerLost:
        heard = self._presence.heard
        return PeerLost(reason=reason, turn_id=heard.turn_id, heard_ms=heard.played_ms)

    def measured(self, report: PlayoutProgress) -> PlayoutProgress:
        """The report, and what the caller says of the line."""
        return msgspec.structs.replace(
            report, loss_fraction=self._link.loss_fraction, round_trip_ms=self._link.round_trip_ms
        )
