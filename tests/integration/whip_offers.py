"""Offers and fragments as text, a user, and what a refusal looks like, for the tests of WHIP over HTTP."""

import httpx

from voxthread.core.failures import SessionError

FRAGMENT = "application/trickle-ice-sdpfrag"
SECTION = """m=audio 9 UDP/TLS/RTP/SAVPF 111
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:111 opus/48000/2
"""
TRANSPORT = (
    "a=ice-ufrag:abcd\na=ice-pwd:0123456789012345678901\na=setup:actpass\na=fingerprint:sha-256 "
    + ":".join(["AB"] * 32)
    + "\n"
)
DATA = """m=application 9 UDP/DTLS/SCTP webrtc-datachannel
a=mid:d
a=sctp-port:5000
"""
OFFER = f"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=group:BUNDLE 0\n{TRANSPORT}{SECTION}"


def fragment(ufrag: str = "abcd", candidate: str = "1 1 udp 1 127.0.0.1 5000 typ host") -> str:
    return (
        f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n"
        f"m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:{candidate}\r\na=end-of-candidates\r\n"
    )


def problem_of(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    body = response.json()
    assert body["status"] == response.status_code
    assert len(body["detail"]) > 10
    return response.status_code, body["code"]


def only_alice(bearer: str | None) -> str:
    match bearer:
        case None:
            raise SessionError("token_missing", "a bearer token is needed")
        case "alice" | "bob":
            return bearer
        case _:
            raise SessionError("token_invalid", "the bearer token is not valid")
