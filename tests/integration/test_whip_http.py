"""WHIP as HTTP (RFC 9725): statuses, headers, refusals. Real media behind it, no call connected.

The numbers in the names are those of docs/conformance.md; most tests run strict and lenient.
"""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_network
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from integration.whip_call import URL, Caller, Server, whip_server
from integration.whip_offers import DATA, FRAGMENT, OFFER, SECTION, fragment, only_alice, problem_of
from voxthread.core.ids import IdRule
from voxthread.gateway.ice_servers import IceServers
from voxthread.gateway.limits import CallLimits

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

DIRECTIONS = {"a=sendrecv", "a=sendonly", "a=recvonly", "a=inactive"}
ANYWHERE = ip_network("0.0.0.0/0")


@pytest.fixture(params=[False, True], ids=["lenient", "strict"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    async with whip_server(strict_rfc9725=request.param) as running:
        yield running


async def test_w04_answered_offer_has_the_headers_of_a_whip_session(server: Server) -> None:
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
async def test_w01_media_type_with_parameters_or_case_is_accepted(
    server: Server, content_type: str, expected: int
) -> None:
    response = await server.http.post("/whip", content=OFFER, headers={"Content-Type": content_type})
    assert response.status_code == expected


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "text/plain"}])
async def test_w02_other_media_type_is_415_with_accept_post(server: Server, headers: dict[str, str]) -> None:
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
async def test_w03_bad_offer_is_refused_and_leaves_no_session(
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


async def test_w20_full_server_answers_503_with_retry_after() -> None:
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


async def test_w44_missing_and_wrong_tokens_are_401() -> None:
    async with whip_server(authenticate=only_alice) as server:
        missing = await server.post(OFFER)
        assert problem_of(missing) == (401, "token_missing")
        assert missing.headers["WWW-Authenticate"] == 'Bearer realm="voxthread"'
        wrong = await server.post(OFFER, Authorization="Bearer mallory")
        assert problem_of(wrong) == (401, "token_invalid")
        assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]


async def test_w39_only_the_creator_or_the_session_token_may_delete() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="bearer alice")
        location, token = created.headers["Location"], created.headers["X-Session-Token"]
        bob = await server.http.delete(location, headers={"Authorization": "Bearer bob"})
        assert problem_of(bob) == (404, "whip.no_session")
        other = await server.http.delete(location, headers={"X-Session-Token": "vst_other"})
        assert problem_of(other) == (404, "whip.no_session")
        assert problem_of(await server.http.delete(location))[0] == 401
        deleted = await server.http.delete(location, headers={"Authorization": f"Bearer {token}"})
        assert deleted.status_code == 200
        again = await server.http.delete(location, headers={"Authorization": "Bearer alice"})
        assert problem_of(again) == (404, "whip.no_session")


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


async def test_w28_get_is_empty_and_w26_a_preflight_needs_no_token() -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="Bearer alice")
        location = created.headers["Location"]
        assert (await server.http.get("/whip")).status_code == 204
        head = await server.http.head(location, headers={"Authorization": "Bearer alice"})
        assert (head.status_code, head.content) == (204, b"")
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
            for header in ("Authorization", "Content-Type", "If-Match"):
                assert header in preflight.headers["Access-Control-Allow-Headers"].split(", ")
            assert int(preflight.headers["Access-Control-Max-Age"]) > 0
            assert "Link" not in preflight.headers


@pytest.mark.parametrize(
    ("method", "on_session"),
    [("PUT", False), ("DELETE", False), ("PATCH", False), ("PUT", True), ("POST", True)],
)
async def test_w29_other_methods_are_405_with_allow(server: Server, method: str, on_session: bool) -> None:
    url = (await server.post(OFFER)).headers["Location"] if on_session else "/whip"
    response = await server.http.request(method, url)
    assert problem_of(response) == (405, "http.method")
    assert method not in response.headers["Allow"].split(", ")


@dataclass(slots=True)
class Trickler:
    """PATCHes one session."""

    server: Server
    created: httpx.Response

    async def __call__(
        self, body: str, if_match: str | None = "", content_type: str = FRAGMENT
    ) -> httpx.Response:
        """An empty `if_match` sends the current tag, None nothing."""
        tag = self.created.headers["ETag"] if if_match == "" else if_match
        headers = {"Content-Type": content_type} | ({"If-Match": tag} if tag is not None else {})
        return await self.server.http.patch(
            self.created.headers["Location"], content=body.encode(), headers=headers
        )


@pytest.fixture
async def patch(server: Server) -> Trickler:
    return Trickler(server, await server.post(OFFER))


def tags(patch: Trickler, name: str) -> str | None:
    return {"current": patch.created.headers["ETag"], "star": "*", "quoted": '"*"', "none": None}.get(
        name, '"other"'
    )


@pytest.mark.parametrize("tag", ["current", "star", "quoted", "none", "other"])
@pytest.mark.parametrize("credentials", ["same", "absent", "different"])
async def test_w32_a_fragment_does_what_its_credentials_and_tag_say(
    patch: Trickler, credentials: str, tag: str
) -> None:
    body = fragment("newfrag" if credentials == "different" else "abcd")
    if credentials == "absent":
        body = "".join(line for line in body.splitlines(keepends=True) if "a=ice-" not in line)
    response = await patch(body, tags(patch, tag))
    if tag == "none":
        assert problem_of(response) == (428, "whip.if_match_missing")
    elif tag == "other":
        assert problem_of(response) == (412, "whip.if_match_failed")
        assert response.headers["ETag"] == patch.created.headers["ETag"]
    elif credentials == "different":
        assert problem_of(response) == (422, "whip.no_ice_restart")
    else:
        assert (response.status_code, response.content) == (204, b"")
        assert "ETag" not in response.headers


async def test_w31_an_ice_restart_is_422_and_points_to_resuming(patch: Trickler) -> None:
    restart = await patch(fragment("newfrag"), "*")
    assert problem_of(restart) == (422, "whip.no_ice_restart")
    assert "X-Resume-Token" in restart.json()["detail"]
    assert (await patch(fragment())).status_code == 204
    assert (await patch.server.http.get(patch.created.headers["Location"])).status_code == 204


async def test_w30_a_fragment_of_another_type_is_415_and_a_malformed_one_400(patch: Trickler) -> None:
    wrong_type = await patch(fragment(), content_type="application/sdp")
    assert problem_of(wrong_type) == (415, "http.media_type")
    assert wrong_type.headers["Accept-Patch"] == FRAGMENT
    assert problem_of(await patch("garbage")) == (400, "fragment.malformed")


@pytest.mark.parametrize(
    "body",
    [
        fragment(),
        fragment().replace("\r\n", "\n"),
        fragment().replace("RTP/AVP 0", "UDP/TLS/RTP/SAVPF 111"),
        fragment().replace("a=mid:0", "a=mid:audio0"),
        "a=end-of-candidates\r\n",
        "",
    ],
    ids=["pseudo-line", "lf", "real-line", "foreign-mid", "end-only", "empty"],
)
async def test_w33_fragments_as_clients_write_them_are_204(patch: Trickler, body: str) -> None:
    statuses: list[int] = []

    async def send() -> None:
        statuses.append((await patch(body)).status_code)

    async with anyio.create_task_group() as several:
        for _ in range(4):
            several.start_soon(send)
    assert statuses == [204] * 4


@pytest.mark.parametrize(
    "candidate",
    [
        "1 1 tcp 1 192.0.2.1 9 typ host tcptype active",
        "1 1 udp 1 a-b-c.local 5000 typ host",
        "1 1 udp 1 example.org 5000 typ host",
        "1 1 ssltcp 1 192.0.2.1 443 typ relay",
        "",
    ],
    ids=["tcp", "mdns", "name", "unknown-transport", "firefox-end"],
)
async def test_w34_candidates_that_are_not_supported_are_discarded(patch: Trickler, candidate: str) -> None:
    assert (await patch(fragment(candidate=candidate))).status_code == 204


async def test_w35_repeated_candidates_and_those_of_other_sections_are_ignored(patch: Trickler) -> None:
    twice = fragment() + "a=candidate:1 1 udp 1 127.0.0.1 5000 typ host\r\nm=audio 9 RTP/AVP 0\r\na=mid:7\r\n"
    for _ in range(2):
        response = await patch(twice + "a=candidate:1 1 udp 1 127.0.0.1 5002 typ host\r\n")
        assert response.status_code == 204


async def test_w37_a_fragment_with_names_to_resolve_is_answered_at_once() -> None:
    async with whip_server(allow_remote_candidates=True, probe_networks=(ANYWHERE,)) as server:
        patch = Trickler(server, await server.post(OFFER))
        with anyio.fail_after(0.5):
            for index in range(20):
                name = f"1 1 udp 1 {index:032x}.local 5000 typ host"
                assert (await patch(fragment(candidate=name))).status_code == 204


async def test_w42_sections_never_change_after_the_201(patch: Trickler) -> None:
    location = patch.created.headers["Location"]
    again = await patch.server.http.post(location, content=OFFER, headers={"Content-Type": "application/sdp"})
    assert problem_of(again) == (405, "http.method")
    assert problem_of(await patch(OFFER, content_type="application/sdp"))[0] == 415


async def test_w38_delete_is_200_whatever_its_if_match_says(server: Server) -> None:
    for tag in (None, "*", '"other"', "junk"):
        created = await server.post(OFFER)
        headers = {} if tag is None else {"If-Match": tag}
        assert (await server.http.delete(created.headers["Location"], headers=headers)).status_code == 200
    assert len(server.legs) == 0


def lines_of(answer: str) -> list[str]:
    assert answer.endswith("\r\n")
    assert "\n" not in answer.replace("\r\n", "")
    return answer.split("\r\n")


async def test_w05_the_answer_is_small_crlf_sdp_of_known_length(server: Server) -> None:
    response = await server.post(OFFER)
    assert lines_of(response.text)[0] == "v=0"
    assert len(response.content) <= 8_192
    assert int(response.headers["Content-Length"]) == len(response.content)
    assert "Transfer-Encoding" not in response.headers


async def test_w06_each_201_has_a_strong_tag_of_its_own(server: Server) -> None:
    found = {(await server.post(OFFER)).headers["ETag"] for _ in range(3)}
    assert len(found) == 3
    assert all(re.fullmatch(r'"[0-9a-f]{16,}"', tag) for tag in found)


async def test_w07_the_answer_has_all_candidates_and_their_end(server: Server) -> None:
    with anyio.fail_after(1):
        lines = lines_of((await server.post(OFFER)).text)
    assert any(re.fullmatch(r"a=candidate:1 1 udp \d+ 127\.0\.0\.1 \d+ typ host", line) for line in lines)
    assert "a=end-of-candidates" in lines


@pytest.mark.parametrize("accept", ["application/sdp", "text/html", "*/*;q=0"])
async def test_w08_accept_is_ignored_and_nothing_is_stored(server: Server, accept: str) -> None:
    response = await server.post(OFFER, Accept=accept)
    assert response.status_code == 201
    assert response.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("strict", [False, True], ids=["lenient", "strict"])
@pytest.mark.parametrize("offered", ["sendrecv", "sendonly"])
async def test_w09_an_offer_to_send_is_answered_recvonly_but_for_the_agents_voice(
    strict: bool, offered: str
) -> None:
    async with whip_server(strict_rfc9725=strict) as server:
        lines = lines_of((await server.post(OFFER.replace("sendrecv", offered))).text)
    direction = "sendrecv" if offered == "sendrecv" and not strict else "recvonly"
    assert {line for line in lines if line in DIRECTIONS} == {f"a={direction}"}


@pytest.mark.parametrize("offered", ["recvonly", "inactive"])
async def test_w09_an_offer_not_to_send_is_422(server: Server, offered: str) -> None:
    assert problem_of(await server.post(OFFER.replace("sendrecv", offered))) == (422, "offer.direction")


async def test_w10_every_section_is_bundled_and_muxed_only(server: Server) -> None:
    answer = (await server.post(OFFER.replace("BUNDLE 0", "BUNDLE 0 d") + DATA)).text
    assert "a=group:BUNDLE 0 d\r\n" in answer
    audio = answer.split("m=audio")[1].split("m=application")[0]
    assert "a=rtcp-mux\r\n" in audio
    assert "a=rtcp-mux-only\r\n" in audio
    apart = await server.post(OFFER + DATA)
    assert problem_of(apart) == (422, "offer.not_bundled")


async def test_w11_an_offer_without_bundle_is_answered_without(server: Server) -> None:
    response = await server.post(OFFER.replace("a=group:BUNDLE 0\n", ""))
    assert response.status_code == 201
    assert "a=group" not in response.text


async def test_w12_a_bundle_only_section_with_port_zero_is_not_refused(server: Server) -> None:
    response = await server.post(OFFER.replace("m=audio 9", "m=audio 0") + "a=bundle-only\n")
    assert response.status_code == 201
    assert "m=audio 0" not in response.text
    assert problem_of(await server.post(OFFER.replace("m=audio 9", "m=audio 0")))[0] == 422


@pytest.mark.parametrize(
    ("offer", "status"),
    [
        (OFFER, 201),
        (OFFER + "a=ssrc:1 msid:user host\n", 201),
        (OFFER + "a=msid:one audio\n", 201),
        (OFFER + "a=msid:one audio\na=msid:two audio\n", 422),
        (OFFER.replace("BUNDLE 0", "BUNDLE 0 1") + SECTION.replace("mid:0", "mid:1"), 422),
    ],
    ids=["no-msid", "only-ssrc", "one", "two-streams", "two-audio"],
)
async def test_w13_there_is_one_audio_of_one_stream(server: Server, offer: str, status: int) -> None:
    assert (await server.post(offer)).status_code == status


async def test_w14_video_fails_the_whole_post_and_a_data_channel_is_accepted(server: Server) -> None:
    video = OFFER.replace("BUNDLE 0", "BUNDLE 0 v") + SECTION.replace("audio", "video").replace(
        "mid:0", "mid:v"
    )
    refused = await server.post(video)
    assert problem_of(refused) == (422, "offer.not_audio")
    assert "video" in refused.json()["detail"]
    accepted = await server.post(OFFER.replace("BUNDLE 0", "BUNDLE 0 d") + DATA)
    assert re.search(r"m=application [1-9]\d* UDP/DTLS/SCTP webrtc-datachannel", accepted.text)


@pytest.mark.parametrize("codec", ["PCMU/8000", "G722/8000", "opus/48000", "opus/16000/2"])
async def test_w15_an_offer_without_usable_opus_is_422(server: Server, codec: str) -> None:
    assert problem_of(await server.post(OFFER.replace("opus/48000/2", codec))) == (422, "offer.no_opus")


@pytest.mark.parametrize(
    ("offered", "answered"), [("actpass", "passive"), ("active", "passive"), ("passive", "active")]
)
async def test_w16_the_server_is_passive_unless_the_client_is(
    server: Server, offered: str, answered: str
) -> None:
    lines = lines_of((await server.post(OFFER.replace("actpass", offered))).text)
    assert [line for line in lines if line.startswith("a=setup")] == [f"a=setup:{answered}"]


async def test_w16_an_offer_without_setup_is_400(server: Server) -> None:
    offer = OFFER.replace("a=setup:actpass\n", "")
    assert problem_of(await server.post(offer)) == (400, "offer.no_setup")


async def test_w17_the_server_is_a_full_ice_agent_also_to_a_lite_one(server: Server) -> None:
    response = await server.post(OFFER.replace("t=0 0\n", "t=0 0\na=ice-lite\n"))
    assert response.status_code == 201
    assert "ice-lite" not in response.text
    assert "a=ice-options:trickle" in lines_of(response.text)


async def test_w18_simulcast_is_not_answered(server: Server) -> None:
    response = await server.post(OFFER + "a=rid:1 send\na=rid:2 send\na=simulcast:send 1;2\n")
    assert response.status_code == 201
    assert "simulcast" not in response.text
    assert "a=rid" not in response.text


async def test_w19_no_redirect_but_307(server: Server) -> None:
    response = await server.http.post("/whip/", content=OFFER, headers={"Content-Type": "application/sdp"})
    assert response.status_code == 307
    assert response.headers["Location"] == f"{URL}/whip"


@pytest.mark.parametrize("offer", ["", "x" * 60_000, OFFER.replace("opus", "o" * 60), OFFER + "m=\n"])
async def test_w21_refusals_are_small_problems_that_repeat_nothing(server: Server, offer: str) -> None:
    response = await server.post(offer)
    problem_of(response)
    assert len(response.content) <= 1_024
    for secret in ("0123456789012345678901", "xxxx", "oooo", "Traceback"):
        assert secret not in response.text


LINKS = {
    "ice_servers": IceServers(["stun:stun.example.org", "turn:turn.example.org:3478?transport=udp"], "secret")
}
TURN_LINK = re.compile(
    r'<turn:turn\.example\.org:3478\?transport=udp>; rel="ice-server"; username="[^"]+"; '
    r'credential="[^"]+"; credential-type="password"'
)


async def test_w22_the_201_has_a_link_for_each_ice_server() -> None:
    async with whip_server(routes=LINKS) as server:
        stun, turn = (await server.post(OFFER)).headers.get_list("Link")
    assert stun == '<stun:stun.example.org>; rel="ice-server"'
    assert TURN_LINK.fullmatch(turn)


async def test_w23_options_has_the_links_a_preflight_has_not_and_strangers_have_not() -> None:
    async with whip_server(authenticate=only_alice, routes=LINKS) as server:
        alice = {"Authorization": "Bearer alice"}
        asked = await server.http.options("/whip", headers=alice)
        assert [bool(TURN_LINK.fullmatch(link)) for link in asked.headers.get_list("Link")] == [False, True]
        preflight = await server.http.options(
            "/whip", headers=alice | {"Access-Control-Request-Method": "POST"}
        )
        stranger = await server.http.options("/whip")
        guess = await server.http.options("/whip", headers={"X-Session-Token": "vst_guess"})
        bearer_guess = await server.http.options("/whip", headers={"Authorization": "Bearer vst_guess"})
        for response in (preflight, stranger, guess, bearer_guess):
            assert response.status_code == 200
            assert "Link" not in response.headers


async def test_w24_extensions_are_links_of_which_there_are_none(server: Server) -> None:
    assert "Link" not in (await server.post(OFFER)).headers


async def test_w25_options_is_200_and_says_what_may_be_posted(server: Server) -> None:
    endpoint = await server.http.options("/whip")
    assert (endpoint.status_code, endpoint.content) == (200, b"")
    assert endpoint.headers["Accept-Post"] == "application/sdp"
    session = await server.http.options((await server.post(OFFER)).headers["Location"])
    assert (session.status_code, session.headers["Accept-Patch"]) == (200, FRAGMENT)


async def test_w27_every_answer_may_be_read_by_pages_of_other_origins(server: Server) -> None:
    created = await server.post(OFFER)
    location = created.headers["Location"]
    refused = [
        await server.post("junk"),
        await server.http.put("/whip"),
        await server.http.patch(location),
        await server.http.get(f"{URL}/whip/sessions/unknown"),
    ]
    for response in (created, await server.http.get(location), await server.http.options("/whip"), *refused):
        assert response.headers["Access-Control-Allow-Origin"] == "*"
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"Location", "Link", "ETag", "Retry-After", "WWW-Authenticate", "Accept-Patch"} <= {*exposed}


async def test_w43_bearer_tokens_are_asked_for_everywhere_but_on_a_preflight() -> None:
    async with whip_server(authenticate=only_alice) as server:
        location = (await server.post(OFFER, Authorization="Bearer alice")).headers["Location"]
        for method in ("GET", "PATCH", "DELETE"):
            assert problem_of(await server.http.request(method, location)) == (401, "token_missing")
        preflight = {"Access-Control-Request-Method": "DELETE"}
        assert (await server.http.options(location, headers=preflight)).status_code == 200


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_w45_the_scheme_has_any_case_and_a_token_in_the_url_does_not_count(scheme: str) -> None:
    async with whip_server(authenticate=only_alice) as server:
        assert (await server.post(OFFER, Authorization=f"{scheme} alice")).status_code == 201
        in_url = await server.http.post(
            "/whip?token=alice&access_token=alice", content=OFFER, headers={"Content-Type": "application/sdp"}
        )
        assert problem_of(in_url) == (401, "token_missing")


async def test_w46_session_urls_are_unguessable_and_posts_patches_and_deletes_limited() -> None:
    limits = CallLimits(calls_per_minute=2, requests_per_minute=2)
    routes = {"limits": limits, "public_url": "https://voice.example.org/"}
    async with whip_server(routes=routes, client="192.0.2.1") as server:
        locations = [(await server.post(OFFER)).headers["Location"] for _ in range(2)]
        secrets = [location.removeprefix("https://voice.example.org/whip/sessions/") for location in locations]
        assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", secret) for secret in secrets)
        limited = await server.post(OFFER)
        assert problem_of(limited) == (429, "http.too_many_calls")
        assert int(limited.headers["Retry-After"]) == 30
        path = urlsplit(locations[0]).path
        assert problem_of(await server.http.patch(path))[0] == 415
        assert (await server.http.delete(path)).status_code == 200
        assert problem_of(await server.http.delete(path)) == (429, "http.too_many_requests")


async def test_call_whose_candidates_were_stripped_connects(server: Server) -> None:
    caller = Caller()
    offer = await caller.offer()
    kept = [line for line in offer.splitlines() if not line.startswith("a=candidate")]
    response = await server.post("\r\n".join(kept) + "\r\n")
    await caller.connect(response.text)
    await caller.close()
