"""The SDP answer to an offer, written as RFC 9725 section 4 and the clients in use want it. Pure."""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from voxthread.media.sdp import AudioSection, DataSection, Offer
from voxthread.media.sdp_text import Fingerprint

MAX_MESSAGE_BYTES: Final = 65_536
SCTP_PORT: Final = 5000
AUDIO_LEVEL: Final = "urn:ietf:params:rtp-hdrext:ssrc-audio-level"

_HOST_TYPE_PREFERENCE: Final = 126


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalTransport:
    """Our end of the bundled transport. `addresses` are host and port of each, the best reachable first."""

    ufrag: str
    password: str
    fingerprints: Sequence[Fingerprint]
    addresses: Sequence[tuple[str, int]]
    ssrc: int


def answer_direction(offer: Offer, *, strict: bool) -> Literal["sendrecv", "recvonly"]:
    """`recvonly` as RFC 9725 section 4.2 demands, but `sendrecv` to an offer of it unless `strict`:
    the agent's voice then comes back on the same connection."""
    return "sendrecv" if offer.audio.direction == "sendrecv" and not strict else "recvonly"


def answer_setup(offer: Offer) -> Literal["active", "passive"]:
    """Passive wherever the offer leaves the choice (RFC 9725 section 4.4.4); FFmpeg's does not."""
    return "active" if offer.setup == "passive" else "passive"


def answer_nack(offer: Offer, *, strict: bool) -> bool:
    """Whether lost packets are asked for.

    libwebrtc can be asked for Opus but does not offer it; it is told from others by its offer of congestion
    control, and answered as if it had, unless `strict` forbids that (RFC 4585 section 4.2).
    """
    feedback = offer.audio.feedback
    return "nack" in feedback or ("transport-cc" in feedback and not strict)


def build_answer(offer: Offer, local: LocalTransport, *, strict: bool) -> str:
    """The whole answer with CRLF line ends. Holds no byte the caller chose but checked mids and numbers."""
    lines = ["v=0", f"o=- {local.ssrc} 1 IN IP4 0.0.0.0", "s=-", "t=0 0"]
    if offer.bundle:
        lines.append(f"a=group:BUNDLE {' '.join(offer.bundle)}")
    lines += ["a=ice-options:trickle", "a=msid-semantic:WMS *"]
    for section in offer.sections:
        match section:
            case AudioSection():
                lines += _audio(section, local, answer_direction(offer, strict=strict))
                lines += _extras(section, nack=answer_nack(offer, strict=strict))
            case DataSection():
                lines += _data(section, local)
        lines += _transport(offer, local)
        if not offer.bundle or section.mid == offer.bundle[0]:
            lines += [*_candidates(local.addresses), "a=end-of-candidates"]
    return "\r\n".join(lines) + "\r\n"


def _audio(section: AudioSection, local: LocalTransport, direction: str) -> list[str]:
    opus = section.opus_payload_type
    lines = [
        _media_line("audio", section.protocol, str(opus), local),
        _connection_line(local),
        f"a=mid:{section.mid}",
        f"a={direction}",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        f"a=rtpmap:{opus} opus/48000/2",
        f"a=fmtp:{opus} minptime=10;useinbandfec=1",
    ]
    if direction == "sendrecv":
        lines += [
            "a=msid:voxthread agent",
            f"a=ssrc:{local.ssrc} cname:{local.ssrc:08x}",
            f"a=ssrc:{local.ssrc} msid:voxthread agent",
        ]
    return lines


def _extras(section: AudioSection, *, nack: bool) -> Iterator[str]:
    if nack:
        yield f"a=rtcp-fb:{section.opus_payload_type} nack"
    if section.level_id:
        yield f"a=extmap:{section.level_id} {AUDIO_LEVEL}"


def _data(section: DataSection, local: LocalTransport) -> list[str]:
    return [
        _media_line("application", "UDP/DTLS/SCTP", "webrtc-datachannel", local),
        _connection_line(local),
        f"a=mid:{section.mid}",
        f"a=sctp-port:{SCTP_PORT}",
        f"a=max-message-size:{MAX_MESSAGE_BYTES}",
    ]


def _media_line(kind: str, protocol: str, formats: str, local: LocalTransport) -> str:
    return f"m={kind} {local.addresses[0][1]} {protocol} {formats}"


def _connection_line(local: LocalTransport) -> str:
    address = local.addresses[0][0]
    return f"c=IN IP{ipaddress.ip_address(address).version} {address}"


def _transport(offer: Offer, local: LocalTransport) -> list[str]:
    return [
        f"a=ice-ufrag:{local.ufrag}",
        f"a=ice-pwd:{local.password}",
        *(f"a=fingerprint:{each.algorithm} {each.value}" for each in local.fingerprints),
        f"a=setup:{answer_setup(offer)}",
    ]


def _candidates(addresses: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Earlier addresses get higher priorities (RFC 8445 section 5.1.2.1)."""
    for index, (address, port) in enumerate(addresses):
        priority = (_HOST_TYPE_PREFERENCE << 24) + ((65_535 - index) << 8) + 255
        yield f"a=candidate:{index + 1} 1 udp {priority} {address} {port} typ host"
