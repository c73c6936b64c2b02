"""The PATCH table of RFC 9725, whose credentials count, and which statuses refusals get."""

import pytest

from voxthread.core.failures import BusError, MediaError, SessionError, VoiceError
from voxthread.core.ids import IdRule
from voxthread.gateway.cors import Cors
from voxthread.gateway.problem import RequestError, status_of
from voxthread.gateway.whip_rules import Credentials, PatchDecision, decide_patch, read_credentials
from voxthread.media.sdp_text import OfferError

pytestmark = pytest.mark.unit

ETAG = '"current"'
CURRENT = (ETAG, "*", '"*"', f'"old", {ETAG}')


@pytest.mark.parametrize("if_match", CURRENT)
@pytest.mark.parametrize(
    ("is_restart", "decision"), [(False, PatchDecision.TRICKLE), (True, PatchDecision.RESTART)]
)
def test_current_tag_lets_a_fragment_do_what_its_credentials_mean(
    if_match: str, is_restart: bool, decision: PatchDecision
) -> None:
    assert decide_patch(if_match, ETAG, is_restart=is_restart) is decision


@pytest.mark.parametrize(
    ("if_match", "status"), [(None, 428), ('"old"', 412), ("current", 412), ('W/"current"', 412), ("", 412)]
)
@pytest.mark.parametrize("is_restart", [False, True])
def test_missing_or_other_tag_refuses_any_fragment(if_match: str | None, status: int, is_restart: bool) -> None:
    with pytest.raises(RequestError) as caught:
        decide_patch(if_match, ETAG, is_restart=is_restart)
    assert caught.value.status == status
    assert caught.value.headers.get("ETag") == (ETAG if status == 412 else None)


@pytest.mark.parametrize(
    ("authorization", "session_token", "expected"),
    [
        (None, None, Credentials(None, None)),
        ("Bearer jwt", None, Credentials("jwt", None)),
        ("bEARER  jwt ", None, Credentials("jwt", None)),
        ("Basic dXNlcg==", None, Credentials(None, None)),
        ("Bearer", None, Credentials(None, None)),
        ("Bearer vst_x", None, Credentials(None, "vst_x")),
        ("Bearer jwt", "vst_x", Credentials("jwt", "vst_x")),
    ],
)
def test_session_token_counts_in_either_header(
    authorization: str | None, session_token: str | None, expected: Credentials
) -> None:
    assert read_credentials(authorization, session_token) == expected


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (RequestError(405, "http.method", ""), 405),
        (OfferError("offer.no_opus", "", status=422), 422),
        (SessionError(IdRule.TOO_SHORT.value, ""), 400),
        (SessionError("session_forbidden", ""), 403),
        (MediaError("media.full", "", retryable=True), 503),
        (BusError("bus.down", "", retryable=True), 503),
        (MediaError("media.no_session", ""), 500),
    ],
)
def test_each_error_has_its_status(error: VoiceError, status: int) -> None:
    assert status_of(error) == status


def test_only_named_origins_are_allowed_and_caches_are_told() -> None:
    cors = Cors(["https://a.example"], methods=["GET"], request_headers=["X-A"], exposed_headers=["ETag"])
    assert cors.headers("https://a.example", is_options=False) == {
        "Access-Control-Allow-Origin": "https://a.example",
        "Vary": "Origin",
        "Access-Control-Expose-Headers": "ETag",
    }
    assert cors.headers("https://b.example", is_options=True) == {"Vary": "Origin"}
    assert cors.headers(None, is_options=False) == {"Vary": "Origin"}
