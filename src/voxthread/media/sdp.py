"""An SDP offer: checked against the limits of RFC 9725 and of a voice agent, and read into values. Pure.

Nothing of the caller's text reaches aiortc: it is parsed here once, and only these values go on.
"""

import re
from dataclasses import dataclass
from typing import Final, Literal

from voxthread.media.sdp_text import (
    Attributes,
    Candidate,
    Fingerprint,
    OfferError,
    parse_candidate,
    read_fingerprints,
    read_ice_credentials,
    split_lines,
)

MAX_OFFER_BYTES: Final = 64 * 1024
MAX_SECTIONS: Final = 4
MAX_CODECS: Final = 64
MAX_CANDIDATES: Final = 30
MAX_EXTENSION_ID: Final = 14

Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]
Setup = Literal["actpass", "active", "passive"]

_MEDIA = re.compile(r"(\w{1,16}) (\d{1,5})(?:/\d{1,3})? ([A-Z/]{3,32}) (\S+(?: \S+)*)", re.ASCII)
_MID = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`{|}~-]{1,64}")
_RTPMAP = re.compile(r"(\d{1,3}) ([^\s/]{1,64})/(\d{1,7})(?:/(\d{1,3}))?", re.ASCII)
_LEVEL_EXTENSION = re.compile(
    r"(\d{1,4})(?:/(?:sendrecv|sendonly))? urn:ietf:params:rtp-hdrext:ssrc-audio-level(?: .*)?", re.ASCII
)
_RTCP_CONFLICTS: Final = range(64, 96)
"""Payload types that rtcp-mux would take for RTCP (RFC 5761 section 4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioSection:
    mid: str
    protocol: str
    direction: Direction
    opus_payload_type: int
    feedback: frozenset[str] = frozenset()
    """Of RTCP, for Opus: `nack`, `transport-cc` and the like."""
    level_id: int = 0
    """Of the header extension that says how loud a packet is; 0 for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSection:
    mid: str
    sctp_port: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a caller offers: one Opus stream, perhaps data channels, over one bundled transport."""

    sections: tuple[AudioSection | DataSection, ...]
    bundle: tuple[str, ...]
    """Mids in the order of the offer's BUNDLE group; empty when it has none."""
    ufrag: str
    password: str
    ice_lite: bool
    setup: Setup
    fingerprints: tuple[Fingerprint, ...]
    candidates: tuple[Candidate, ...]

    @property
    def audio(self) -> AudioSection:
        return next(section for section in self.sections if isinstance(section, AudioSection))

    @property
    def data(self) -> DataSection | None:
        return next((section for section in self.sections if isinstance(section, DataSection)), None)


def parse_offer(text: str) -> Offer:
    """Read and check an offer. Raises `OfferError` with status 400 (malformed) or 422 (cannot be served)."""
    session, sections = _split(text)
    codecs = sum(1 for section in sections for _ in section.all("rtpmap"))
    if codecs > MAX_CODECS:
        raise OfferError("offer.too_many_codecs", f"The offer has {codecs} codecs; send at most {MAX_CODECS}.")
    parsed = tuple(_section(section, session) for section in sections)
    if sum(isinstance(section, AudioSection) for section in parsed) != 1 or len(parsed) > 2:
        raise _unsupported(
            "offer.sections", "Offer exactly one audio section, and at most one data channel section."
        )
    mids = [section.mid for section in parsed]
    if len(set(mids)) != len(mids):
        raise OfferError("offer.duplicate_mid", "Each section needs an a=mid of its own.")
    bundle = _bundle(session, mids)
    tagged = sections[mids.index(bundle[0])] if bundle else sections[0]
    sources = (tagged, *sections, session)
    ufrag, password = read_ice_credentials(_first(sources, "ice-ufrag"), _first(sources, "ice-pwd"))
    candidates = tuple(
        parse_candidate(line) for section in sections for line in section.all("candidate") if line
    )
    if len(candidates) > MAX_CANDIDATES:
        raise OfferError("offer.too_many_candidates", f"Send at most {MAX_CANDIDATES} candidates.")
    return Offer(
        sections=parsed,
        bundle=bundle,
        ufrag=ufrag,
        password=password,
        ice_lite=session.get("ice-lite") is not None,
        setup=_setup(_first(sources, "setup")),
        fingerprints=read_fingerprints([*tagged.all("fingerprint")] or [*session.all("fingerprint")]),
        candidates=candidates,
    )


def _unsupported(code: str, detail: str) -> OfferError:
    return OfferError(code, detail, status=422)


def _split(text: str) -> tuple[Attributes, list[Attributes]]:
    if len(text) > MAX_OFFER_BYTES:
        raise OfferError("offer.too_large", f"The offer exceeds {MAX_OFFER_BYTES} bytes.", status=413)
    lines = split_lines(text, "offer.malformed")
    if not lines or lines[0] != "v=0":
        raise OfferError("offer.malformed", "The body is not SDP: its first line must be v=0.")
    session = current = Attributes()
    sections: list[Attributes] = []
    for line in lines[1:]:
        kind, value = line[0], line[2:]
        if kind == "m":
            current = Attributes(value)
            sections.append(current)
            if len(sections) > MAX_SECTIONS:
                raise OfferError("offer.too_many_sections", f"Offer at most {MAX_SECTIONS} media sections.")
        elif kind == "a":
            current.add(value)
    if not sections:
        raise _unsupported("offer.no_audio", "The offer has no audio section; offer one with Opus.")
    return session, sections


def _section(attributes: Attributes, session: Attributes) -> AudioSection | DataSection:
    match = _MEDIA.fullmatch(attributes.media)
    if match is None:
        raise OfferError("offer.malformed", "An m= line is malformed.")
    kind, port, protocol, formats = match.groups()
    if int(port) > 65535:
        raise OfferError("offer.malformed", "An m= line has a port above 65535.")
    if kind not in ("audio", "application"):
        raise _unsupported("offer.not_audio", f"Only audio and data channels are served; do not offer {kind}.")
    if port == "0" and attributes.get("bundle-only") is None:
        raise _unsupported("offer.disabled_section", f"The {kind} section is disabled (port 0); leave it out.")
    mid = attributes.get("mid")
    if mid is None or not _MID.fullmatch(mid):
        raise OfferError("offer.no_mid", f"The {kind} section has no valid a=mid.")
    if kind == "application":
        return _data_section(mid, protocol, attributes)
    return _audio_section(mid, protocol, formats.split(), attributes, session)


def _audio_section(
    mid: str, protocol: str, formats: list[str], attributes: Attributes, session: Attributes
) -> AudioSection:
    if protocol not in ("UDP/TLS/RTP/SAVPF", "RTP/SAVPF"):
        raise _unsupported("offer.protocol", "Offer the audio as UDP/TLS/RTP/SAVPF.")
    if attributes.get("rtcp-mux") is None:
        raise OfferError("offer.no_rtcp_mux", "The audio section has no a=rtcp-mux.")
    if len({value.split(" ")[0] for value in attributes.all("msid")}) > 1:
        raise _unsupported("offer.two_streams", "The audio section names more than one media stream.")
    opus = _opus_payload_type(formats, attributes)
    return AudioSection(
        mid=mid,
        protocol=protocol,
        direction=_direction(attributes, session),
        opus_payload_type=opus,
        feedback=_feedback(str(opus), attributes),
        level_id=_level_id(attributes),
    )


def _data_section(mid: str, protocol: str, attributes: Attributes) -> DataSection:
    port = attributes.get("sctp-port") or ""
    size = attributes.get("max-message-size") or "65536"
    if protocol not in ("UDP/DTLS/SCTP", "TCP/DTLS/SCTP") or not re.fullmatch(r"[0-9]{1,5}", port):
        raise _unsupported("offer.data_channel", "Offer data channels as UDP/DTLS/SCTP with an a=sctp-port.")
    if int(port) > 65535 or not re.fullmatch(r"[0-9]{1,19}", size):
        raise OfferError("offer.malformed", "a=sctp-port or a=max-message-size is not a number in range.")
    return DataSection(mid=mid, sctp_port=int(port), max_message_bytes=int(size))


def _direction(attributes: Attributes, session: Attributes) -> Direction:
    directions: tuple[Direction, ...] = ("sendrecv", "sendonly", "recvonly", "inactive")
    for source in (attributes, session):
        for direction in directions:
            if source.get(direction) is not None:
                if direction in ("recvonly", "inactive"):
                    raise _unsupported(
                        "offer.direction", f"A caller must speak: offer sendrecv or sendonly, not {direction}."
                    )
                return direction
    return "sendrecv"


def _opus_payload_type(formats: list[str], attributes: Attributes) -> int:
    if len(formats) > MAX_CODECS:
        raise OfferError("offer.too_many_codecs", f"Send at most {MAX_CODECS} codecs.")
    for value in attributes.all("rtpmap"):
        match = _RTPMAP.fullmatch(value)
        if match is None:
            raise OfferError("offer.malformed", "An a=rtpmap line is malformed.")
        payload_type, name, rate_hz, channels = match.groups()
        if (name.lower(), rate_hz, channels) == ("opus", "48000", "2") and payload_type in formats:
            if int(payload_type) > 127 or int(payload_type) in _RTCP_CONFLICTS:
                raise OfferError("offer.payload_type", "Opus has a payload type that rtcp-mux does not allow.")
            return int(payload_type)
    raise _unsupported("offer.no_opus", "The audio section does not offer opus/48000/2.")


def _feedback(opus: str, attributes: Attributes) -> frozenset[str]:
    offered = (value.split(" ", 1) for value in attributes.all("rtcp-fb"))
    return frozenset(kind for payload_type, *kinds in offered if payload_type in ("*", opus) for kind in kinds)


def _level_id(attributes: Attributes) -> int:
    """RFC 6464; an id that only two-byte headers can carry is not taken (RFC 8285 section 4.2)."""
    for value in attributes.all("extmap"):
        match = _LEVEL_EXTENSION.fullmatch(value)
        if match is not None and 1 <= int(match.group(1)) <= MAX_EXTENSION_ID:
            return int(match.group(1))
    return 0


def _bundle(session: Attributes, mids: list[str]) -> tuple[str, ...]:
    groups = [value.split()[1:] for value in session.all("group") if value.split()[:1] == ["BUNDLE"]]
    bundle = tuple(mid for mid in groups[0] if mid in mids) if groups else ()
    if len(mids) > 1 and set(bundle) != set(mids):
        raise _unsupported("offer.not_bundled", "Bundle all sections in one a=group:BUNDLE.")
    return tuple(dict.fromkeys(bundle))


def _first(sources: tuple[Attributes, ...], name: str) -> str | None:
    return next((value for source in sources for value in source.all(name)), None)


def _setup(value: str | None) -> Setup:
    match value:
        case "actpass" | "active" | "passive":
            return value
        case _:
            raise OfferError("offer.no_setup", "The offer has no a=setup of actpass, active or passive.")
