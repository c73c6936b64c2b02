"""WHIP as HTTP (RFC 9725): statuses, headers, refusals. Real media behind it, no call connected."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from integration.whip_call import URL, Caller, Server, whip_server
from voxthread.core.failures import SessionError
from voxthread.core.ids import IdRule

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

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
OFFER = f"v=0\no=- 1 1 IN IP4 0.0.0.0\ns=-\nt=0 0\na=group:BUNDLE 0\n{TRANSPORT}{SECTION}"


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with whip_server() as running:
        yield running


def problem_of(response) -> tuple[int, str]:  # type: ignore[no-untyped-def]
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Retry-After" in response.headers["Access-Control-Expose-Headers"]
    body = response.json()
    assert body["status"] == response.status_code
    assert len(body["detail"]) > 10
    return response.status_code, body["code"]


async def test_answered_offer_has_the_headers_of_a_whip_session(server: Server) -> None:
    response = await server.post(OFFER)
    assert response.status_code == 201
    assert response.headers["Content-Type"] == "application/sdp"
    assert response.text.startswith("v=0\r\n")
    assert len(response.content) <= 8192
    location = urlsplit(response.headers["Location"])
    assert response.headers["Location"].startswith(f"{URL}/whip/sessions/")
    assert len(location.path.rpartition("/")[2]) >= 32
    assert not location.query
    session_id = response.headers["X-Session-ID"]
    assert session_id not in location.path
    assert response.headers["X-Frontend-Session-ID"] == session_id
    assert response.headers["X-Session-Token"] == f"vst_{session_id}"
    assert response.headers["ETag"].startswith('"')
    assert response.headers["Accept-Patch"] == FRAGMENT
    assert response.headers["Cache-Control"] == "no-store"
    assert "Link" not in response.headers


@pytest.mark.parametrize(
    ("content_type", "expected"), [("application/sdp; charset=utf-8", 201), ("APPLICATION/SDP", 201)]
)
async def test_media_type_with_parameters_or_case_is_accepted(
    server: Server, content_type: str, expected: int
) -> None:
    response = await server.http.post("/whip", content=OFFER, headers={"Content-Type": content_type})
    assert response.status_code == expected


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
async def test_other_media_type_is_415_with_accept_post(server: Server, headers: dict[str, str]) -> None:
    response = await server.http.post("/whip", content=OFFER.encode(), headers=headers)
    assert problem_of(response) == (415, "http.media_type")
    assert response.headers["Accept-Post"] == "application/sdp"


@pytest.mark.parametrize(
    ("offer", "expected"),
    [
        ("", (400, "offer.malformed")),
        ("garbage", (400, "offer.malformed")),
        (OFFER.replace("a=fingerprint", "a=nothing"), (400, "offer.no_fingerprint")),
        (OFFER.replace("opus", "PCMU"), (422, "offer.no_opus")),
        (OFFER.replace("m=audio", "m=video"), (422, "offer.not_audio")),
        (OFFER.replace("BUNDLE 0", "BUNDLE 0 1") + SECTION.replace("mid:0", "mid:1"), (422, "offer.sections")),
        (OFFER.replace("sendrecv", "recvonly"), (422, "offer.direction")),
        (OFFER + "a=x:" + "y" * 70_000, (413, "http.too_large")),
    ],
    ids=["empty", "garbage", "no-fingerprint", "no-opus", "video", "two-audio", "recvonly", "oversized"],
)
async def test_bad_offer_is_refused_and_leaves_no_session(
    server: Server, offer: str, expected: tuple[int, str]
) -> None:
    assert problem_of(await server.post(offer)) == expected
    assert len(server.legs) == 0
    assert server.door.opened == []


async def test_oversized_body_without_length_is_cut_off(server: Server) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b"a" * 10_000

    response = await server.http.post("/whip", content=body(), headers={"Content-Type": "application/sdp"})
    assert problem_of(response) == (413, "http.too_large")


async def test_body_that_is_not_text_is_refused(server: Server) -> None:
    response = await server.http.post(
        "/whip", content=b"v=0\n\xff\xfe", headers={"Content-Type": "application/sdp"}
    )
    assert problem_of(response) == (400, "http.not_text")


async def test_invalid_frontend_id_is_refused_with_its_rule(server: Server) -> None:
    response = await server.post(OFFER, X_Session_ID="short")
    assert problem_of(response) == (400, IdRule.TOO_SHORT.value)
    assert len(server.legs) == 0


async def test_full_server_answers_503_with_retry_after() -> None:
    async with whip_server(max_sessions=1) as server:
        assert (await server.post(OFFER)).status_code == 201
        response = await server.post(OFFER)
        assert problem_of(response) == (503, "whip.full")
        assert int(response.headers["Retry-After"]) > 0


async def test_server_without_a_usable_address_answers_503_and_ends_the_session() -> None:
    async with whip_server(addresses=("203.0.113.1",)) as server:
        response = await server.post(OFFER)
        assert problem_of(response) == (503, "media.no_socket")
        with_retry = response.headers["Retry-After"]
        assert int(with_retry) > 0
        await server.legs.end_all("test")
        assert len(server.legs) == 0


def only_alice(bearer: str | None) -> str:
    match bearer:
        case None:
            raise SessionError("token_missing", "a bearer token is needed")
        case "alice" | "bob":
            return bearer
        case _:
            raise SessionError("token_invalid", "the bearer token is not valid")


async def test_missing_and_wrong_tokens_are_401() -> None:
    async with whip_server(authenticate=only_alice) as server:
        missing = await server.post(OFFER)
        assert problem_of(missing) == (401, "token_missing")
        assert missing.headers["WWW-Authenticate"] == 'Bearer realm="voxthread"'
        wrong = await server.post(OFFER, Authorization="Bearer mallory")
        assert problem_of(wrong) == (401, "token_invalid")
        assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]


async def test_only_the_creator_or_the_session_token_may_delete() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="bearer alice")
        location, token = created.headers["Location"], created.headers["X-Session-Token"]
        bob = await server.http.delete(location, headers={"Authorization": "Bearer bob"})
        assert problem_of(bob) == (403, "session_forbidden")
        other = await server.http.delete(location, headers={"X-Session-Token": "vst_other"})
        assert problem_of(other) == (403, "session_forbidden")
        assert problem_of(await server.http.delete(location))[0] == 401
        deleted = await server.http.delete(location, headers={"Authorization": f"Bearer {token}"})
        assert deleted.status_code == 200


async def test_a_resume_token_needs_no_other_header_and_the_answer_has_the_next() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="Bearer alice")
        resumed = await server.post(OFFER, X_Resume_Token="vrt_good")
        assert resumed.status_code == 201
        assert resumed.headers["X-Session-ID"] == created.headers["X-Session-ID"]
        assert resumed.headers["X-Resume-Token"] == "vrt_next"
        assert "X-Resume-Token" in resumed.headers["Access-Control-Expose-Headers"]
        preflight = await server.http.options("/whip")
        assert "X-Resume-Token" in preflight.headers["Access-Control-Allow-Headers"]


@pytest.mark.parametrize("token", ["", "vrt_stale", "\t", "x" * 4_000])
async def test_a_bad_resume_token_is_401_and_says_no_more(token: str) -> None:
    async with whip_server(authenticate=only_alice) as server:
        refused = await server.post(OFFER, X_Resume_Token=token)
        assert problem_of(refused) == (401, "resume_token_invalid")
        assert not [name for name in refused.headers if name.startswith("x-session")]


async def test_the_principal_of_a_bearer_token_beside_a_resume_token_counts() -> None:
    async with whip_server(authenticate=only_alice) as server:
        await server.post(OFFER, Authorization="Bearer alice")
        wrong = await server.post(OFFER, Authorization="Bearer mallory", X_Resume_Token="vrt_good")
        assert problem_of(wrong) == (401, "token_invalid")
        await server.post(OFFER, Authorization="Bearer bob", X_Resume_Token="vrt_good")
        assert server.door.resumed == [("vrt_good", "bob")]


async def test_an_offer_that_cannot_be_answered_does_not_use_a_resume_token_up(server: Server) -> None:
    await server.post(OFFER)
    assert (await server.post("v=0", X_Resume_Token="vrt_good")).status_code == 422
    assert server.door.resumed == []


async def test_a_resume_token_is_no_permission_for_anything_else() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="Bearer alice")
        for method in ("PATCH", "DELETE", "GET"):
            refused = await server.http.request(
                method, created.headers["Location"], headers={"X-Resume-Token": "vrt_good"}
            )
            assert problem_of(refused) == (401, "token_missing")


async def test_get_is_empty_and_options_need_no_token() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="Bearer alice")
        location = created.headers["Location"]
        assert (await server.http.get("/whip")).status_code == 204
        assert (await server.http.get(location, headers={"Authorization": "Bearer alice"})).status_code == 204
        assert (await server.http.get(f"{URL}/whip/sessions/unknown")).status_code == 401
        unknown = await server.http.get(
            f"{URL}/whip/sessions/unknown", headers={"Authorization": "Bearer alice"}
        )
        assert problem_of(unknown) == (404, "whip.no_session")
        for url in ("/whip", location):
            preflight = await server.http.options(
                url, headers={"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}
            )
            assert preflight.status_code == 200
            assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
            assert "If-Match" in preflight.headers["Access-Control-Allow-Headers"]
            assert "Link" not in preflight.headers
        assert (await server.http.options("/whip")).headers["Accept-Post"] == "application/sdp"


@pytest.mark.parametrize(
    ("method", "on_session"),
    [("PUT", False), ("DELETE", False), ("PATCH", False), ("PUT", True), ("POST", True)],
)
async def test_other_methods_are_405_with_allow(server: Server, method: str, on_session: bool) -> None:
    url = (await server.post(OFFER)).headers["Location"] if on_session else "/whip"
    response = await server.http.request(method, url)
    assert problem_of(response) == (405, "http.method")
    assert method not in response.headers["Allow"].split(", ")


def fragment(ufrag: str = "abcd", candidate: str = "1 1 udp 1 127.0.0.1 5000 typ host") -> str:
    return (
        f"a=ice-ufrag:{ufrag}\r\na=ice-pwd:0123456789012345678901\r\n"
        f"m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:{candidate}\r\na=end-of-candidates\r\n"
    )


async def test_trickle_is_204_without_etag_and_restart_422_with_the_call_kept(server: Server) -> None:
    created = await server.post(OFFER)
    location, etag = created.headers["Location"], created.headers["ETag"]

    async def patch(body: str, if_match: str | None = etag, content_type: str = FRAGMENT):  # type: ignore[no-untyped-def]
        headers = {"Content-Type": content_type} | ({"If-Match": if_match} if if_match else {})
        return await server.http.patch(location, content=body, headers=headers)

    trickled = await patch(fragment())
    assert (trickled.status_code, trickled.content) == (204, b"")
    assert "ETag" not in trickled.headers
    assert (await patch(fragment(candidate="1 1 tcp 1 a.local 9 typ host tcptype active"))).status_code == 204
    restart = await patch(fragment("newfrag"), "*")
    assert problem_of(restart) == (422, "whip.no_ice_restart")
    assert "X-Resume-Token" in restart.json()["detail"]
    assert problem_of(await patch(fragment(), None)) == (428, "whip.if_match_missing")
    other = await patch(fragment(), '"other"')
    assert problem_of(other) == (412, "whip.if_match_failed")
    assert other.headers["ETag"] == etag
    wrong_type = await patch(fragment(), content_type="application/sdp")
    assert problem_of(wrong_type) == (415, "http.media_type")
    assert wrong_type.headers["Accept-Patch"] == FRAGMENT
    assert problem_of(await patch("garbage")) == (400, "fragment.malformed")
    assert (await server.http.get(location)).status_code == 204


async def test_call_whose_candidates_were_stripped_connects(server: Server) -> None:
    caller = Caller()
    offer = await caller.offer()
    kept = [line for line in offer.splitlines() if not line.startswith("a=candidate")]
    response = await server.post("\r\n".join(kept) + "\r\n")
    await caller.connect(response.text)
    await caller.close()


async def test_strict_server_answers_recvonly() -> None:
    async with whip_server(strict_rfc9725=True) as server:
        answer = (await server.post(OFFER)).text
        assert "a=recvonly" in answer
        assert "a=sendrecv" not in answer
