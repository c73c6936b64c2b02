"""A trickle ICE fragment (RFC 8840, `application/trickle-ice-sdpfrag`) as the clients in use write it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Final

from voxthread.media.sdp import MAX_CANDIDATES
from voxthread.media.sdp_text import (
    Candidate,
    OfferError,
    parse_candidate,
    read_ice_credentials,
    split_lines,
)

MAX_FRAGMENT_BYTES: Final = 16 * 1024
_CODE: Final = "fragment.malformed"
_FIRST_UNPRIVILEGED_PORT: Final = 1024
_WRAPPED_IPV4: Final = tuple(
    IPv6Network(network)
    for network in ("::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")
)
"""IPv6 that stands for an IPv4 address: mapped, NAT64, 6to4, Teredo."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """What a client trickles. Its credentials are None when it leaves them out.

    Sections are told apart by `a=mid` alone: real clients write `m=audio` above every one of them.
    """

    ufrag: str | None
    password: str | None
    candidates: tuple[tuple[str | None, Candidate], ...]
    """With the mid each was given for."""
    is_last: bool

    def restarts(self, ufrag: str, password: str) -> bool:
        """Whether the fragment asks for an ICE restart of a peer known by these credentials."""
        return self.ufrag is not None and (self.ufrag, self.password) != (ufrag, password)


def parse_fragment(text: str) -> Fragment:
    """Raises `OfferError` (`fragment.malformed`)."""
    if len(text) > MAX_FRAGMENT_BYTES:
        raise OfferError(_CODE, f"The fragment exceeds {MAX_FRAGMENT_BYTES} bytes.", status=413)
    mid: str | None = None
    ufrag: str | None = None
    password: str | None = None
    candidates: list[tuple[str | None, Candidate]] = []
    is_last = False
    for line in split_lines(text, _CODE):
        name, _, value = line[2:].partition(":")
        value = value.strip()
        if line[0] == "m":
            mid = None
        elif line[0] != "a":
            continue
        elif name == "mid":
            mid = value
        elif name == "ice-ufrag":
            ufrag = ufrag or value
        elif name == "ice-pwd":
            password = password or value
        elif name == "candidate" and value:
            candidates.append((mid, parse_candidate(value)))
        elif name in ("end-of-candidates", "candidate"):
            is_last = True
    if len(candidates) > MAX_CANDIDATES:
        raise OfferError(_CODE, f"Send at most {MAX_CANDIDATES} candidates at a time.")
    if ufrag is not None or password is not None:
        ufrag, password = read_ice_credentials(ufrag, password)
    return Fragment(ufrag, password, tuple(candidates), is_last)


def may_probe(candidate: Candidate, networks: Sequence[IPv4Network | IPv6Network] = ()) -> bool:
    """Whether an address a caller names may be sent checks, once an operator has allowed it at all.

    UDP to an unprivileged port of a literal address that is public, or of one of `networks`: never a name to
    resolve, never a service port, never a private address in the clothes of an IPv6 one.
    """
    if candidate.transport != "udp" or candidate.component != 1 or candidate.port < _FIRST_UNPRIVILEGED_PORT:
        return False
    try:
        address = ip_address(candidate.address)
    except ValueError:
        return False
    if any(address in network for network in networks):
        return True
    return address.is_global and not address.is_multicast and not _wraps_ipv4(address)


def _wraps_ipv4(address: IPv4Address | IPv6Address) -> bool:
    return isinstance(address, IPv6Address) and any(address in network for network in _WRAPPED_IPV4)
