"""Addresses to name in answers where a 1:1 NAT stands before the server (a cloud's public address). Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address


@dataclass(frozen=True, slots=True)
class PublicAddress:
    """What callers reach one private address by, or every one of its IP version where `private` is None."""

    public: str
    private: str | None = None

    def stands_for(self, address: str) -> bool:
        if self.private is not None:
            return ip_address(self.private) == ip_address(address)
        return ip_address(self.public).version == ip_address(address).version


def parse_public_address(text: str) -> PublicAddress:
    """`PUBLIC` or `PUBLIC/PRIVATE`. Raises `ValueError`."""
    public, slash, private = text.partition("/")
    if slash and ip_address(private).version != ip_address(public).version:
        raise ValueError(f"{text}: both addresses must be of one IP version")
    return PublicAddress(str(ip_address(public)), str(ip_address(private)) if slash else None)


def advertised(
    bound: Sequence[tuple[str, int]], public: Sequence[PublicAddress], *, keeps_private: bool
) -> list[tuple[str, int]]:
    """Host and port of each socket as callers are told: by its public address where it has one, and then,
    with `keeps_private`, by its own behind all others."""
    named: list[tuple[str, int]] = []
    kept: list[tuple[str, int]] = []
    for address, port in bound:
        behind = next((each.public for each in public if each.stands_for(address)), None)
        named.append((behind or address, port))
        if behind is not None and keeps_private:
            kept.append((address, port))
    return [*named, *kept]
