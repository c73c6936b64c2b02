"""What makes the best of a bad line is agreed on with whoever can do it: NACK, and how loud a packet is."""

import pytest
from aiortc.sdp import SessionDescription

from unit.test_offer import CHROMIUM, FFMPEG, LOCAL
from voxthread.client import peer
from voxthread.media.answer import answer_nack, build_answer
from voxthread.media.link import Negotiated
from voxthread.media.sdp import MAX_EXTENSION_ID, parse_offer

pytestmark = pytest.mark.unit

OFFERED_FEEDBACK = "a=rtcp-fb:111 transport-cc\n"
OFFERED_LEVEL = "a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n"


def answer_to(offer: str, *, strict: bool = False) -> str:
    return build_answer(parse_offer(offer), LOCAL, strict=strict)


@pytest.mark.parametrize(
    ("feedback", "is_asked", "is_asked_strictly"),
    [
        ("a=rtcp-fb:111 nack\n", True, True),
        ("a=rtcp-fb:* nack\n", True, True),
        ("a=rtcp-fb:111 transport-cc\na=rtcp-fb:111 nack\n", True, True),
        ("a=rtcp-fb:111 transport-cc\n", True, False),
        ("a=rtcp-fb:63 nack\n", False, False),
        ("a=rtcp-fb:111 nack pli\n", False, False),
        ("a=rtcp-fb:111\n", False, False),
        ("", False, False),
    ],
)
def test_lost_packets_are_asked_for_where_the_caller_knows_how(
    feedback: str, is_asked: bool, is_asked_strictly: bool
) -> None:
    text = CHROMIUM.replace(OFFERED_FEEDBACK, feedback)
    offer = parse_offer(text)
    assert answer_nack(offer, strict=False) is is_asked
    assert answer_nack(offer, strict=True) is is_asked_strictly
    assert ("a=rtcp-fb:111 nack\r\n" in answer_to(text)) is is_asked
    assert ("rtcp-fb" in answer_to(text, strict=True)) is is_asked_strictly


@pytest.mark.parametrize(
    ("extension", "level_id"),
    [
        ("a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n", 1),
        ("a=extmap:14/sendonly urn:ietf:params:rtp-hdrext:ssrc-audio-level vad=on\n", MAX_EXTENSION_ID),
        ("a=extmap:3/recvonly urn:ietf:params:rtp-hdrext:ssrc-audio-level\n", 0),
        ("a=extmap:15 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n", 0),
        ("a=extmap:0 urn:ietf:params:rtp-hdrext:ssrc-audio-level\n", 0),
        ("a=extmap:2 urn:ietf:params:rtp-hdrext:csrc-audio-level\n", 0),
        ("a=extmap:x urn:ietf:params:rtp-hdrext:ssrc-audio-level\n", 0),
        ("", 0),
    ],
)
def test_level_of_packets_is_taken_under_the_id_the_caller_gives_it(extension: str, level_id: int) -> None:
    text = CHROMIUM.replace(OFFERED_LEVEL, extension)
    assert parse_offer(text).audio.level_id == level_id
    (audio, _) = SessionDescription.parse(answer_to(text)).media
    assert [each.id for each in audio.rtp.headerExtensions] == ([level_id] if level_id else [])


def test_nothing_is_answered_that_was_not_offered() -> None:
    assert "rtcp-fb" not in answer_to(FFMPEG)
    assert "extmap" not in answer_to(FFMPEG)


def test_our_client_offers_what_it_can_and_does_what_is_agreed() -> None:
    offer = peer._OPUS.sub(peer._offer_nack, CHROMIUM.replace(OFFERED_FEEDBACK, "").replace("\n", "\r\n"))
    assert "a=rtcp-fb:111 nack\r\na=rtpmap:111 opus/48000/2\r\n" in offer
    assert peer._agreed(answer_to(offer, strict=True)) == Negotiated(nack=True, level_id=1)
    assert peer._agreed(answer_to(FFMPEG)) == Negotiated()
