"""Whether a connected caller is still there, and what of the replies it can have heard. Pure.

    nothing came for   5 s             15 s                  30 s
    THERE ------------ told: silent -- nothing is played --- gone
      ^------------------ told: heard again ---'

A caller is there when anything comes of it: audio, but also the reports and connectivity checks of one who is
muted and sends no audio at all.
"""

from voxthread.media.playout import Played
from voxthread.media.settings import MediaSettings
from voxthread.wire.facts import PeerHeard, PeerSilent


class Presence:
    """One peer, from the moment it is connected."""

    def __init__(self, settings: MediaSettings, now_ms: int, heard: Played) -> None:
        """`heard` is what was heard before this peer came."""
        self._settings = settings
        self._arrived_at_ms = now_ms
        self._heard = heard
        self._is_silent = False

    @property
    def heard(self) -> Played:
        """What had been played when something last came of the peer."""
        return self._heard

    def arrived(self, at_ms: int, played: Played) -> PeerHeard | None:
        """Something came of the peer when `played` was what it had been sent."""
        self._arrived_at_ms = max(self._arrived_at_ms, at_ms)
        self._heard = played
        was_silent, self._is_silent = self._is_silent, False
        return PeerHeard() if was_silent else None

    def notice(self, now_ms: int) -> PeerSilent | None:
        """What is to be told now that so much time has passed."""
        if self._is_silent or self._silence_ms(now_ms) < self._settings.silent_after_ms:
            return None
        self._is_silent = True
        return PeerSilent(turn_id=self._heard.turn_id, heard_ms=self._heard.played_ms)

    def is_listening(self, now_ms: int) -> bool:
        """Whether to play anything to it."""
        return self._silence_ms(now_ms) < self._settings.pause_after_ms

    def is_gone(self, now_ms: int) -> bool:
        return self._silence_ms(now_ms) >= self._settings.silence_timeout_ms

    def _silence_ms(self, now_ms: int) -> int:
        return now_ms - self._arrived_at_ms
