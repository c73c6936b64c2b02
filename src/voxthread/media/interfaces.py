"""At which addresses of this machine media is received."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from ipaddress import ip_address
from typing import Final

import ifaddr

_LOOPBACK_HOSTS: Final = ("127.0.0.1", "localhost", "::1")
_WILDCARDS: Final = ("0.0.0.0", "::", "")


def host_addresses(bound_to: str, interfaces: Sequence[str] = ()) -> list[str]:
    """Addresses to receive media at for a server whose HTTP is bound to `bound_to`, best reachable first.

    `interfaces` are shell patterns of interface names, a leading `!` excludes: then the addresses of these,
    wherever HTTP is. Without them a wildcard means all addresses, IPv4 before IPv6. A loopback server takes
    127.0.0.1 first, then the machine's own IPv4 addresses, because browsers may bind no socket on loopback.
    """
    if interfaces:
        return _addresses(interfaces)
    if bound_to in _LOOPBACK_HOSTS:
        loopback = ["::1", "127.0.0.1"] if bound_to == "::1" else ["127.0.0.1"]
        return [*loopback, *(each for each in _addresses() if ":" not in each)]
    if bound_to in _WILDCARDS:
        return _addresses()
    return [bound_to]


def is_selected(name: str, patterns: Sequence[str]) -> bool:
    """Whether an interface is meant by patterns of which those with a leading `!` exclude."""
    excluding = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    including = [pattern for pattern in patterns if not pattern.startswith("!")] or ["*"]
    return any(fnmatchcase(name, pattern) for pattern in including) and not any(
        fnmatchcase(name, pattern) for pattern in excluding
    )


def _addresses(interfaces: Sequence[str] = ()) -> list[str]:
    """IPv4 first. Loopback only where an interface is asked for by name, link-local IPv6 never."""
    found = [
        str(each.ip if isinstance(each.ip, str) else each.ip[0])
        for adapter in ifaddr.get_adapters()
        if is_selected(adapter.name, interfaces)
        for each in adapter.ips
    ]
    is_loopback_meant = any(is_selected("lo", [pattern]) for pattern in interfaces if pattern[0] not in "*!")
    usable = [
        each
        for each in found
        if not ip_address(each).is_link_local and (is_loopback_meant or not ip_address(each).is_loopback)
    ]
    return sorted(usable, key=lambda address: ":" in address)
