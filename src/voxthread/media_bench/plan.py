"""What the processes of the benchmark tell each other. Instants are microseconds of the machine's monotonic
clock, which they share."""

from time import monotonic_ns
from typing import Final, TypeVar

import msgspec

PACKET_US: Final = 20_000
PACKET_TICKS: Final = 960
"""Of the 48 kHz RTP clock in 20 ms."""


def instant_us() -> int:
    """The clock that all processes of the machine share."""
    return monotonic_ns() // 1000


class Conditions(msgspec.Struct, frozen=True, kw_only=True):
    """The line from a caller to the server. What it brings back is not disturbed."""

    loss: float = 0.0
    """Share of datagrams lost, 0 to 1, those sent again included."""
    burst: float = 0.0
    """Mean length of a run of losses (Gilbert); 0 loses each by itself."""
    jitter_ms: float = 0.0
    """Each is delayed by 0 to so much, all equally likely."""
    round_trip_ms: float = 0.0
    """All of it on the way to the server."""
    nack: bool = True
    """Callers offer to send again what is lost."""
    seed: int = 1


class Tracks(msgspec.Struct, frozen=True, kw_only=True):
    """What callers say, one each, and the agent's reply: Opus packets of 20 ms, said over and over."""

    callers: list[list[bytes]]
    reply: list[bytes]


class CallerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of the callers is to do."""

    url: str
    tracks_file: str
    conditions: Conditions
    core: int | None = None
    """To run on, None for any."""


class ServerPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the media process, or the owner of its sessions, is to do."""

    tracks_file: str
    bus_url: str
    max_sessions: int
    core: int | None = None
    is_realtime: bool = True
    keeps_heard: bool = True
    """Keep what callers say, to be asked for."""
    keeps_audio: bool = False
    """Also of a server that hands on decoded audio: keep it, not only when it came."""


class RubbishPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where somebody who has nothing to do with it sends rubbish, and how much."""

    host: str
    port: int
    per_s: int
    core: int | None = None


class Call(msgspec.Struct, kw_only=True):
    """One caller's call."""

    session_id: str
    track: int
    media_after_us: int | None = None
    """From the POST to the first media packet."""
    sent_us: list[int] = msgspec.field(default_factory=list)
    """When each packet went onto the line."""
    heard_us: list[int] = msgspec.field(default_factory=list)
    """When each packet of the reply arrived,"""
    heard_ticks: list[int] = msgspec.field(default_factory=list)
    """and its timestamp, 32 bits."""
    resent: int = 0
    """Packets sent again because the server asked for them."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What the callers saw between two instants."""

    calls: list[Call]
    began_us: int
    ended_us: int
    late_us: list[int]
    """How long after its due instant each datagram was sent."""


class Arrived(msgspec.Struct, frozen=True, array_like=True):
    """A record of a session's audio in its reader's hands."""

    at_us: int
    value: bytes


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """20 ms of decoded audio in its reader's hands: its RTP timestamp, and 16 kHz s16le if it is kept."""

    at_us: int
    ticks: int
    pcm: bytes


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """What came of each session."""

    records: dict[str, list[Arrived]] = msgspec.field(default_factory=dict)
    frames: dict[str, list[Frame]] = msgspec.field(default_factory=dict)


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Of one process. Zero where the platform does not tell."""

    at_us: int
    cpu_s: float
    rss_bytes: int
    threads: int
    sockets: int
    tasks: int


T = TypeVar("T")


def write_file(path: str, content: msgspec.Struct) -> None:
    with open(path, "wb") as file:
        file.write(msgspec.msgpack.encode(content))


def read_file(path: str, kind: type[T]) -> T:
    with open(path, "rb") as file:
        return msgspec.msgpack.decode(file.read(), type=kind)
