"""A caller's offer as a browser would make it, and what it needs of the answer."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from voxthread.client.failures import BenchError
from voxthread.media_bench.ice import IceCredentials

PAYLOAD_TYPE: Final = 111

_CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (\d[\d.]*) (\d+) typ host", re.MULTILINE | re.IGNORECASE)
_OPUS = re.compile(r"^a=rtpmap:(\d+) opus/48000", re.MULTILINE | re.IGNORECASE)
_UFRAG = re.compile(r"^a=ice-ufrag:(\S+)", re.MULTILINE)
_PASSWORD = re.compile(r"^a=ice-pwd:(\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    address: tuple[str, int]
    ice: IceCredentials
    payload_type: int


def write_offer(
    ice: IceCredentials, fingerprint: str, addresses: Sequence[str], port: int, *, ssrc: int, nack: bool
) -> str:
    lines = [
        "v=0",
        f"o=- {ssrc} 1 IN IP4 0.0.0.0",
        "s=-",
        "t=0 0",
        "a=group:BUNDLE 0",
        f"m=audio {port} UDP/TLS/RTP/SAVPF {PAYLOAD_TYPE}",
        f"c=IN IP4 {addresses[0]}",
        "a=mid:0",
        "a=sendrecv",
        "a=rtcp-mux",
        f"a=rtpmap:{PAYLOAD_TYPE} opus/48000/2",
        f"a=fmtp:{PAYLOAD_TYPE} minptime=10;useinbandfec=1",
        *([f"a=rtcp-fb:{PAYLOAD_TYPE} nack"] if nack else []),
        f"a=ssrc:{ssrc} cname:caller",
        f"a=ice-ufrag:{ice.ufrag}",
        f"a=ice-pwd:{ice.password}",
        f"a=fingerprint:sha-256 {fingerprint}",
        "a=setup:active",
        *(
            f"a=candidate:{number} 1 udp {2130706431 - number} {address} {port} typ host"
            for number, address in enumerate(addresses, 1)
        ),
        "a=end-of-candidates",
    ]
    return "\r\n".join(lines) + "\r\n"


def read_answer(sdp: str) -> Answer:
    """Raises `BenchError`."""
    candidate, opus = _CANDIDATE.search(sdp), _OPUS.search(sdp)
    ufrag, password = _UFRAG.search(sdp), _PASSWORD.search(sdp)
    if not (candidate and opus and ufrag and password):
        raise BenchError("bench.bad_answer", "the answer lacks a candidate, Opus or the credentials of ICE")
    return Answer(
        address=(candidate[1], int(candidate[2])),
        ice=IceCredentials(ufrag[1], password[1]),
        payload_type=int(opus[1]),
    )
