"""Offers, answers and fragments: what is read, what is refused and why, and no bytes do worse than that."""

import contextlib
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxthread.media.answer import LocalTransport, answer_direction, answer_setup, build_answer
from voxthread.media.fragment import may_probe, parse_fragment
from voxthread.media.sdp import parse_offer
from voxthread.media.sdp_text import Candidate, Fingerprint, OfferError, parse_candidate

pytestmark = pytest.mark.unit

PASSWORD = "0123456789012345678901"
DIGEST = ":".join(["ab"] * 32)

CHROMIUM = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS stream
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:{PASSWORD}
a=ice-options:trickle
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:0
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level
a=sendrecv
a=msid:stream track
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=rtcp-fb:111 transport-cc
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=fmtp:63 111/111
a=candidate:1 1 udp 2113937151 b5c1.local 50000 typ host generation 0 network-cost 999
m=application 9 UDP/DTLS/SCTP webrtc-datachannel
c=IN IP4 0.0.0.0
a=ice-ufrag:abcd
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:1
a=sctp-port:5000
a=max-message-size:262144
"""

SIMPLE_WHIP_CLIENT = f"""v=0
o=- 1 0 IN IP4 127.0.0.1
s=-
t=0 0
a=ice-options:trickle
m=audio 9 UDP/TLS/RTP/SAVPF 100
c=IN IP4 0.0.0.0
a=setup:actpass
a=ice-ufrag:abcd
a=ice-pwd:{PASSWORD}
a=rtcp-mux
a=sendonly
a=rtpmap:100 OPUS/48000/2
a=fmtp:100 sprop-stereo=0
a=ssrc:1 msid:user host
a=mid:audio0
a=fingerprint:sha-256 {DIGEST}
"""

FFMPEG = f"""v=0
o=FFmpeg 4489045141692799359 2 IN IP4 127.0.0.1
s=FFmpegPublishSession
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 111
c=IN IP4 0.0.0.0
a=ice-ufrag:abcdefgh
a=ice-pwd:{PASSWORD}
a=fingerprint:sha-256 {DIGEST}
a=setup:passive
a=mid:0
a=sendonly
a=msid:FFmpeg audio
a=rtcp-mux
a=rtpmap:111 opus/48000/2
a=ssrc:1 cname:FFmpeg
"""

LOCAL = LocalTransport(
    ufrag="wxyz",
    password="p" * 22,
    fingerprints=[Fingerprint("sha-256", DIGEST.upper())],
    addresses=[("127.0.0.1", 40_000), ("192.0.2.7", 40_001)],
    ssrc=7,
)


def test_offer_of_a_browser_is_read() -> None:
    offer = parse_offer(CHROMIUM.replace("\n", "\r\n"))
    assert offer.audio.mid == "0"
    assert offer.audio.opus_payload_type == 111
    assert offer.audio.direction == "sendrecv"
    assert offer.data is not None
    assert (offer.data.sctp_port, offer.data.max_message_bytes) == (5000, 262_144)
    assert (offer.ufrag, offer.password, offer.setup) == ("abcd", PASSWORD, "actpass")
    assert offer.fingerprints == (Fingerprint("sha-256", DIGEST.upper()),)
    assert offer.bundle == ("0", "1")
    assert [candidate.address for candidate in offer.candidates] == ["b5c1.local"]


@pytest.mark.parametrize(
    ("text", "bundle", "setup"), [(SIMPLE_WHIP_CLIENT, (), "passive"), (FFMPEG, ("0",), "active")]
)
def test_offer_of_an_encoder_is_answered_recvonly_in_its_terms(
    text: str, bundle: tuple[str, ...], setup: str
) -> None:
    offer = parse_offer(text)
    assert offer.bundle == bundle
    assert answer_setup(offer) == setup
    assert answer_direction(offer, strict=False) == "recvonly"
    answer = build_answer(offer, LOCAL, strict=False)
    assert ("a=group:BUNDLE" in answer) is bool(bundle)
    assert f"a=setup:{setup}\r\n" in answer
    assert "a=recvonly\r\n" in answer


def test_answer_to_a_browser_is_complete_and_itself_sdp() -> None:
    offer = parse_offer(CHROMIUM)
    answer = build_answer(offer, LOCAL, strict=False)
    lines = answer.split("\r\n")
    assert lines[0] == "v=0"
    assert "\n" not in answer.replace("\r\n", "")
    for line in (
        "a=group:BUNDLE 0 1",
        "a=ice-options:trickle",
        "a=rtcp-mux",
        "a=rtcp-mux-only",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=sendrecv",
        "a=end-of-candidates",
        "c=IN IP4 127.0.0.1",
    ):
        assert line in lines
    candidates = [line for line in lines if line.startswith("a=candidate")]
    assert [line.split()[4:6] for line in candidates] == [["127.0.0.1", "40000"], ["192.0.2.7", "40001"]]
    priorities = [int(line.split()[3]) for line in candidates]
    assert priorities == sorted(set(priorities), reverse=True)
    assert parse_offer(answer).audio.opus_payload_type == 111
    assert "a=recvonly" in build_answer(offer, LOCAL, strict=True)


def test_w12_bundle_only_audio_with_port_zero_is_not_disabled() -> None:
    text = CHROMIUM.replace("m=audio 9", "m=audio 0").replace("a=mid:0", "a=mid:0\na=bundle-only")
    assert parse_offer(text).audio.mid == "0"


BAD = {
    "empty": ("", 400, "offer.malformed"),
    "garbage": ("hello", 400, "offer.malformed"),
    "no-media": ("v=0\ns=-\n", 422, "offer.no_audio"),
    "data-only": (
        CHROMIUM[: CHROMIUM.index("m=audio")] + CHROMIUM[CHROMIUM.index("m=application") :],
        422,
        "offer.sections",
    ),
    "two-audio": (
        CHROMIUM + CHROMIUM[CHROMIUM.index("m=audio") : CHROMIUM.index("m=app")].replace("mid:0", "mid:2"),
        422,
        "offer.sections",
    ),
    "video": (CHROMIUM.replace("m=application", "m=video"), 422, "offer.not_audio"),
    "disabled": (CHROMIUM.replace("m=audio 9", "m=audio 0"), 422, "offer.disabled_section"),
    "same-mids": (CHROMIUM.replace("a=mid:1", "a=mid:0"), 400, "offer.duplicate_mid"),
    "no-mid": (FFMPEG.replace("a=mid:0\n", ""), 400, "offer.no_mid"),
    "no-fingerprint": (FFMPEG.replace("a=fingerprint", "a=x"), 400, "offer.no_fingerprint"),
    "sha-1": (FFMPEG.replace("sha-256", "sha-1"), 400, "offer.no_fingerprint"),
    "short-fingerprint": (FFMPEG.replace(DIGEST, "ab:cd"), 400, "offer.bad_fingerprint"),
    "no-setup": (FFMPEG.replace("a=setup:passive\n", ""), 400, "offer.no_setup"),
    "bad-setup": (FFMPEG.replace("a=setup:passive", "a=setup:holdconn"), 400, "offer.no_setup"),
    "no-ufrag": (FFMPEG.replace("a=ice-ufrag", "a=x"), 400, "offer.no_ice"),
    "short-password": (FFMPEG.replace(PASSWORD, "short"), 400, "offer.bad_ice"),
    "no-mux": (FFMPEG.replace("a=rtcp-mux\n", ""), 400, "offer.no_rtcp_mux"),
    "recvonly": (CHROMIUM.replace("a=sendrecv", "a=recvonly"), 422, "offer.direction"),
    "inactive": (CHROMIUM.replace("a=sendrecv", "a=inactive"), 422, "offer.direction"),
    "no-opus": (FFMPEG.replace("opus", "PCMU"), 422, "offer.no_opus"),
    "rtcp-payload-type": (
        FFMPEG.replace("SAVPF 111", "SAVPF 72").replace("rtpmap:111", "rtpmap:72"),
        400,
        "offer.payload_type",
    ),
    "plain-rtp": (FFMPEG.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), 422, "offer.protocol"),
    "not-bundled": (CHROMIUM.replace("BUNDLE 0 1", "BUNDLE 0"), 422, "offer.not_bundled"),
    "two-streams": (FFMPEG + "a=msid:other audio\n", 422, "offer.two_streams"),
    "bad-candidate": (FFMPEG + "a=candidate:x\n", 400, "offer.bad_candidate"),
    "candidate-port": (
        FFMPEG + "a=candidate:1 1 udp 1 192.0.2.1 65536 typ host\n",
        400,
        "offer.bad_candidate",
    ),
    "many-candidates": (
        FFMPEG + "a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\n" * 31,
        400,
        "offer.too_many_candidates",
    ),
    "many-codecs": (FFMPEG + "a=rtpmap:1 x/1\n" * 64, 400, "offer.too_many_codecs"),
    "many-sections": (FFMPEG + "m=audio 9 UDP/TLS/RTP/SAVPF 111\n" * 4, 400, "offer.too_many_sections"),
    "long-line": (FFMPEG + f"a=x:{'y' * 2100}\n", 400, "offer.malformed"),
    "control-character": (FFMPEG + "a=x:\x00\n", 400, "offer.malformed"),
    "oversized": (FFMPEG + "a=x:y\n" * 20_000, 413, "offer.too_large"),
    "old-data-channel": (
        CHROMIUM.replace("UDP/DTLS/SCTP webrtc-datachannel", "DTLS/SCTP 5000"),
        422,
        "offer.data_channel",
    ),
}


@pytest.mark.parametrize(("text", "status", "code"), BAD.values(), ids=BAD.keys())
def test_w03_bad_offer_is_refused_with_its_reason(text: str, status: int, code: str) -> None:
    with pytest.raises(OfferError) as caught:
        parse_offer(text)
    assert (caught.value.status, caught.value.code) == (status, code)
    assert PASSWORD not in caught.value.detail


CORPUS = Path(__file__).parents[1] / "data" / "sdp"
OFFERS = sorted(CORPUS.glob("offer_*.sdp"))
FRAGMENTS = sorted(CORPUS.glob("fragment_*.sdp"))
BOMBS = sorted(CORPUS.glob("bomb_*.sdp"))
"""What clients send, recorded or as their sources write it, and what malice comes up with."""


@pytest.mark.parametrize("path", OFFERS, ids=lambda path: path.stem)
@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
def test_each_recorded_offer_is_answered(path: Path, strict: bool) -> None:
    offer = parse_offer(path.read_text())
    assert parse_offer(build_answer(offer, LOCAL, strict=strict).replace("a=recvonly", "a=sendonly")).audio


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.stem)
def test_each_recorded_fragment_is_read(path: Path) -> None:
    assert parse_fragment(path.read_text()).candidates


@pytest.mark.parametrize("path", BOMBS, ids=lambda path: path.stem)
def test_s17_each_bomb_is_refused(path: Path) -> None:
    text = path.read_bytes().decode(errors="replace")
    with pytest.raises(OfferError):
        parse_offer(text)
    with contextlib.suppress(OfferError):
        parse_fragment(text)


@given(st.sampled_from(OFFERS + FRAGMENTS), st.data())
def test_s17_a_recording_with_any_bytes_changed_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    text = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        text[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))
    with contextlib.suppress(OfferError):
        build_answer(parse_offer(text.decode(errors="replace")), LOCAL, strict=False)
    with contextlib.suppress(OfferError):
        parse_fragment(text.decode(errors="replace"))


mutated_lines = st.lists(
    st.sampled_from(CHROMIUM.splitlines() + FFMPEG.splitlines())
    | st.text(max_size=30)
    | st.from_regex(r"[amvb]=[a-z-]{0,12}:?[ -~]{0,30}", fullmatch=True),
    max_size=40,
).map(lambda lines: "v=0\n" + "\n".join(lines))


@given(st.text() | mutated_lines)
def test_any_text_is_an_offer_that_can_be_answered_or_an_offer_error(text: str) -> None:
    with contextlib.suppress(OfferError):
        build_answer(parse_offer(text), LOCAL, strict=False)


@given(st.data())
def test_offer_with_a_line_dropped_or_doubled_is_answered_or_an_offer_error(data: st.DataObject) -> None:
    lines = CHROMIUM.splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at : at + 1] = lines[at : at + 1] * data.draw(st.sampled_from([0, 2]))
    with contextlib.suppress(OfferError):
        build_answer(parse_offer("\n".join(lines)), LOCAL, strict=False)


@given(st.text() | mutated_lines)
def test_any_text_is_a_fragment_or_an_offer_error(text: str) -> None:
    with contextlib.suppress(OfferError):
        parse_fragment(text)


FRAGMENT = f"""a=ice-ufrag:abcd
a=ice-pwd:{PASSWORD}
m=audio 9 RTP/AVP 0
a=mid:audio0
a=candidate:1 1 udp 1 192.0.2.1 5000 typ host
m=audio 9 RTP/AVP 0
a=mid:video0
a=candidate:2 1 udp 1 192.0.2.1 5002 typ srflx raddr 10.0.0.1 rport 5002
a=end-of-candidates
"""


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_w33_fragment_tells_sections_by_mid_never_by_kind(newline: str) -> None:
    fragment = parse_fragment(FRAGMENT.replace("\n", newline))
    assert [(mid, each.port) for mid, each in fragment.candidates] == [("audio0", 5000), ("video0", 5002)]
    assert fragment.is_last
    assert not fragment.restarts("abcd", PASSWORD)
    assert fragment.restarts("other", PASSWORD)
    assert fragment.restarts("abcd", "other")


def test_fragment_without_credentials_never_restarts() -> None:
    fragment = parse_fragment("a=candidate:\r\n")
    assert fragment.is_last
    assert not fragment.restarts("abcd", PASSWORD)


def test_fragment_with_credentials_in_the_media_section_is_read() -> None:
    assert parse_fragment(f"m=audio 9 x 0\na=ice-ufrag:abcd\na=ice-pwd:{PASSWORD}\n").ufrag == "abcd"


def test_fragment_with_half_the_credentials_is_malformed() -> None:
    with pytest.raises(OfferError):
        parse_fragment("a=ice-ufrag:abcd\n")


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("1 1 udp 1 8.8.8.8 5000 typ host", True),
        ("1 1 UDP 1 2606:4700::1111 5000 typ host", True),
        ("1 1 udp 1 10.1.2.3 5000 typ host", True),
        ("1 1 udp 1 10.2.2.3 5000 typ host", False),
        ("1 1 udp 1 127.0.0.1 5000 typ host", False),
        ("1 1 udp 1 192.168.1.1 5000 typ host", False),
        ("1 1 udp 1 100.64.0.1 5000 typ host", False),
        ("1 1 udp 1 ::1 5000 typ host", False),
        ("1 1 udp 1 fd00::1 5000 typ host", False),
        ("1 1 udp 1 ::ffff:10.2.0.1 5000 typ host", False),
        ("1 1 udp 1 64:ff9b::a02:1 5000 typ host", False),
        ("1 1 udp 1 2002:a02:1:: 5000 typ host", False),
        ("1 1 tcp 1 8.8.8.8 5000 typ host tcptype passive", False),
        ("1 2 udp 1 8.8.8.8 5000 typ host", False),
        ("1 1 udp 1 8.8.8.8 53 typ host", False),
        ("1 1 udp 1 a-b-c.local 5000 typ host", False),
        ("1 1 udp 1 example.org 5000 typ host", False),
        ("1 1 udp 1 169.254.169.254 5000 typ host", False),
        ("1 1 udp 1 224.0.0.251 5353 typ host", False),
        ("1 1 udp 1 0.0.0.0 5000 typ host", False),
    ],
)
def test_s04_only_public_udp_addresses_and_those_of_named_networks_may_be_probed(
    line: str, allowed: bool
) -> None:
    candidate = parse_candidate(line)
    assert isinstance(candidate, Candidate)
    assert may_probe(candidate, [ip_network("10.1.0.0/16")]) is allowed
