"""What one session lost, added to the metrics of the process."""

from voxthread.media.playout import PlayoutQueue
from voxthread.media.uplink import Uplink
from voxthread.observability.metrics import AUDIO_DROPPED_SECONDS, PACKETS_LOST, PLAYOUT_UNDERRUNS


class Tally:
    """Moves what the pure parts of a session have counted into the metrics, once."""

    def __init__(self, uplink: Uplink, playout: PlayoutQueue) -> None:
        self._uplink = uplink
        self._playout = playout
        self._lost_packets = 0
        self._underruns = 0
        self._dropped_ms = 0

    def count(self) -> None:
        lost_packets = self._uplink.lost
        if lost_packets != self._lost_packets:
            PACKETS_LOST.inc(lost_packets - self._lost_packets)
            self._lost_packets = lost_packets
        if self._playout.underruns != self._underruns:
            PLAYOUT_UNDERRUNS.inc(self._playout.underruns - self._underruns)
            self._underruns = self._playout.underruns
        if self._playout.dropped_ms != self._dropped_ms:
            AUDIO_DROPPED_SECONDS.labels("out").inc((self._playout.dropped_ms - self._dropped_ms) / 1000)
            self._dropped_ms = self._playout.dropped_ms
