"""What an operator decides about the media process, in its own words; `app` fills it from the configuration."""

from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network

from voxthread.media.nat import PublicAddress


@dataclass(frozen=True, slots=True, kw_only=True)
class MediaSettings:
    addresses: tuple[str, ...] = ("127.0.0.1",)
    """Where media is received, the best reachable first; see `interfaces.host_addresses`."""
    udp_ports: range | None = None
    """Where media's sockets are bound; None takes any free port."""
    nat_1_1: tuple[PublicAddress, ...] = ()
    """What answers name instead of an address of this machine,"""
    nat_keeps_private: bool = False
    """or before it."""
    max_sessions: int = 50
    strict_rfc9725: bool = False
    setup_timeout_ms: int = 10_000
    """From the answer to a connected peer."""
    allow_remote_candidates: bool = False
    """Send connectivity checks to the public addresses that callers name,"""
    probe_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """and to those of these networks."""
    silent_after_ms: int = 5_000
    """Of a peer nothing has come for so long: that is told."""
    pause_after_ms: int = 15_000
    """Then nothing more is played to it,"""
    silence_timeout_ms: int = 30_000
    """and then it is lost."""
    suspects_owners: bool = False
    """Say on the log that a reply does not go on; of use where another orchestrator can."""
