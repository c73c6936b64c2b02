"""SDP and its fragments as text: lines, attributes, and the values that offers and fragments share. Pure."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from voxthread.core.failures import MediaError

MAX_LINE_CHARS: Final = 2 * 1024
_LINE = re.compile(r"[a-z]=[^\x00-\x08\x0a-\x1f\x7f]*")
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}")
_PASSWORD = re.compile(r"[A-Za-z0-9+/]{22,256}")
_DIGEST_BYTES: Final = {"sha-256": 32, "sha-384": 48, "sha-512": 64}
_CANDIDATE = re.compile(
    r"([A-Za-z0-9+/]{1,32}) (\d{1,5}) (\w{1,8}) (\d{1,10}) (\S{1,255}) (\d{1,9}) typ (\w{1,8})(?: .*)?",
    re.ASCII,
)


class OfferError(MediaError):
    """An offer or fragment that is not answered; `status` is the HTTP status that says so."""

    def __init__(self, code: str, detail: str, *, status: int = 400) -> None:
        super().__init__(code, detail)
        self.status = status


@dataclass(frozen=True, slots=True)
class Fingerprint:
    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class Candidate:
    foundation: str
    component: int
    transport: str
    priority: int
    address: str
    port: int
    kind: str


class Attributes:
    """The `a=` lines of one section or of the session, in order."""

    def __init__(self, media: str = "") -> None:
        self.media = media
        self._values: list[tuple[str, str]] = []

    def add(self, line: str) -> None:
        name, _, value = line.partition(":")
        self._values.append((name, value.strip()))

    def all(self, name: str) -> Iterator[str]:
        return (value for key, value in self._values if key == name)

    def get(self, name: str) -> str | None:
        return next(self.all(name), None)


def split_lines(text: str, code: str) -> list[str]:
    """Lines of SDP or of a fragment, CRLF or LF. Raises `OfferError` with `code` for anything else."""
    lines = [line for line in text.replace("\r\n", "\n").split("\n") if line]
    for line in lines:
        if len(line) > MAX_LINE_CHARS:
            raise OfferError(code, f"A line is longer than {MAX_LINE_CHARS} characters.")
        if not _LINE.fullmatch(line):
            raise OfferError(code, "A line is not of the form <letter>=<value>.")
    return lines


def read_ice_credentials(ufrag: str | None, password: str | None) -> tuple[str, str]:
    """Raises `OfferError`."""
    if ufrag is None or password is None:
        raise OfferError("offer.no_ice", "The offer has no a=ice-ufrag or a=ice-pwd.")
    if not _UFRAG.fullmatch(ufrag) or not _PASSWORD.fullmatch(password):
        raise OfferError(
            "offer.bad_ice", "a=ice-ufrag needs 4 to 256 and a=ice-pwd 22 to 256 letters, digits, + or /."
        )
    return ufrag, password


def parse_candidate(value: str) -> Candidate:
    """The value of an `a=candidate:` line. Raises `OfferError`."""
    match = _CANDIDATE.fullmatch(value)
    if match is None:
        raise OfferError("offer.bad_candidate", "An a=candidate line is malformed.")
    foundation, component, transport, priority, address, port, kind = match.groups()
    if int(port) > 65535 or int(component) > 256:
        raise OfferError("offer.bad_candidate", "A candidate has a port above 65535 or a component above 256.")
    return Candidate(
        foundation, int(component), transport.lower(), int(priority), address, int(port), kind.lower()
    )


def read_fingerprints(values: list[str]) -> tuple[Fingerprint, ...]:
    """Those with a digest of sha-256 or better, of all `a=fingerprint` values. Raises `OfferError`."""
    found: list[Fingerprint] = []
    for value in values:
        algorithm, _, digest = value.partition(" ")
        size = _DIGEST_BYTES.get(algorithm.lower())
        if size is None:
            continue
        if not re.fullmatch(rf"[0-9A-Fa-f]{{2}}(?::[0-9A-Fa-f]{{2}}){{{size - 1}}}", digest):
            raise OfferError("offer.bad_fingerprint", f"An {algorithm} fingerprint is not {size} bytes in hex.")
        found.append(Fingerprint(algorithm.lower(), digest.upper()))
    if not found:
        raise OfferError("offer.no_fingerprint", "The offer has no a=fingerprint of sha-256 or better.")
    return tuple(found[:8])
