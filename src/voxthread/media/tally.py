"""What the parts of a session have counted, added to the metrics of the process."""

from collections.abc import Callable

from prometheus_client import Counter

from voxthread.media.link import RtpLink
from voxthread.media.playout import PlayoutQueue
from voxthread.media.uplink import Uplink
from voxthread.observability.metrics import (
    AUDIO_DROPPED_SECONDS,
    DATAGRAMS_REFUSED,
    PACKETS_LOST,
    PACKETS_RECOVERED,
    PACKETS_RESENT,
    PLAYOUT_UNDERRUNS,
)


class Tally:
    """Moves counts, which only grow, into metrics, once."""

    def __init__(self, *counted: tuple[Callable[[], float], Counter]) -> None:
        self._counted = counted
        self._told = [0.0] * len(counted)

    def count(self) -> None:
        for index, (read, metric) in enumerate(self._counted):
            value = read()
            if value != self._told[index]:
                metric.inc(value - self._told[index])
                self._told[index] = value


def tally_of_session(uplink: Uplink, playout: PlayoutQueue) -> Tally:
    return Tally(
        (lambda: uplink.lost, PACKETS_LOST),
        (lambda: playout.underruns, PLAYOUT_UNDERRUNS),
        (lambda: playout.dropped_ms / 1000, AUDIO_DROPPED_SECONDS.labels("out")),
    )


def tally_of_link(link: RtpLink) -> Tally:
    return Tally(
        (lambda: link.recovered_packets, PACKETS_RECOVERED),
        (lambda: link.resent_packets, PACKETS_RESENT),
        (lambda: link.rejected_packets, DATAGRAMS_REFUSED.labels("damaged")),
        (lambda: link.ignored_packets, DATAGRAMS_REFUSED.labels("excess")),
    )
