"""What the WHIP surface does to those who mean ill, and to their victims: S1 to S18 of docs/conformance.md."""

import itertools
import re
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import anyio
import anyio.lowlevel
import httpx
import pytest
from aioice import stun
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from integration.faked_server import scripted_engines, serve_scripted
from integration.self_signed import write_certificate
from integration.whip_call import Caller, calling, stamp_of, whip_server
from integration.whip_offers import DATA, OFFER, fragment, only_alice, problem_of
from voxthread.app.http import bind, open_http, url_of
from voxthread.config import HttpConfig
from voxthread.core.failures import SessionError
from voxthread.gateway.ice_servers import IceServers
from voxthread.gateway.limits import CallLimits
from voxthread.observability.clock import now_ms
from voxthread.sessions.tokens import Authenticator, Scope, TokenVerifier, check_bind, mint_token
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import EndCommand, PeerLost

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

KEY = "0123456789abcdef0123456789abcdef"
STRANGER = "192.0.2.66"
SDP = {"Content-Type": "application/sdp"}
CORPUS = Path(__file__).parents[1] / "data" / "sdp"


def bearer(
    principal: str, *, scope: Scope = Scope.PUBLISH, audience: str = "voxthread", ttl_s: int = 60
) -> str:
    token = mint_token(
        KEY,
        algorithm="HS256",
        audience=audience,
        principal=principal,
        scopes=[scope],
        expires_at_s=now_ms() // 1000 + ttl_s,
    )
    return f"Bearer {token}"


def real_tokens(token: str | None) -> str:
    verifier = TokenVerifier(KEY, algorithm="HS256", audience="voxthread")
    return Authenticator(verifier).authenticate(token, Scope.PUBLISH)


@contextmanager
def victim() -> Iterator[socket.socket]:
    """Somebody who has nothing to do with it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as bound:
        bound.bind(("127.0.0.1", 0))
        bound.setblocking(False)
        yield bound


def packets_at(bound: socket.socket) -> int:
    count = 0
    while True:
        try:
            bound.recv(2_048)
        except BlockingIOError:
            return count
        count += 1


def named(bound: socket.socket, index: int = 1) -> str:
    host, port = bound.getsockname()
    return f"{index} 1 udp {index} {host} {port} typ host"


async def test_s01_bodies_have_their_limits_however_they_come() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a=x:y\n" * 1_000

    async with whip_server() as server:
        location = (await server.post(OFFER)).headers["Location"]
        fragments = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
        for body in (b"v=0\n" * 20_000, chunks()):
            posted = await server.http.post("/whip", content=body, headers=SDP)
            assert problem_of(posted) == (413, "http.too_large")
        for body in (b"a=x\n" * 5_000, chunks()):
            patched = await server.http.patch(location, content=body, headers=fragments)
            assert problem_of(patched) == (413, "http.too_large")


async def test_s01_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("voxthread.gateway.body.READ_TIMEOUT_S", 0.05)

    async def for_ever() -> AsyncIterator[bytes]:
        yield b"v=0\n"
        await anyio.sleep_forever()

    async with whip_server() as server:
        response = await server.http.post("/whip", content=for_ever(), headers=SDP)
        assert problem_of(response) == (408, "http.too_slow")


@pytest.mark.parametrize("sent", [b"", b"GET /whip HTTP/1.1\r\nHost: a\r\nX-Slow: "])
async def test_s01_a_slow_head_is_cut_off(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    monkeypatch.setattr("voxthread.app.http_protocol.HEAD_TIMEOUT_S", 0.05)
    async with serve_scripted(scripted_engines()) as served:
        address = httpx.URL(served.url)
        async with await anyio.connect_tcp(address.host, address.port or 0) as stream:
            if sent:
                await stream.send(sent)
            with anyio.fail_after(2), pytest.raises(anyio.EndOfStream):
                await stream.receive()


@pytest.mark.parametrize("name", [path.stem for path in sorted(CORPUS.glob("bomb_*.sdp"))])
async def test_s01_offer_bombs_are_refused_in_no_time(name: str) -> None:
    bomb = await anyio.Path(CORPUS / f"{name}.sdp").read_bytes()
    async with whip_server() as server:
        with anyio.fail_after(0.5):
            response = await server.http.post("/whip", content=bomb, headers=SDP)
        assert problem_of(response)[0] in (400, 413, 422)
        assert len(server.legs) == 0


async def test_s02_limits_and_tokens_come_before_the_offer_is_looked_at() -> None:
    async with whip_server(
        authenticate=only_alice, routes={"limits": CallLimits(calls_per_minute=2)}, client=STRANGER
    ) as server:
        assert problem_of(await server.post("junk")) == (401, "token_missing")
        assert problem_of(await server.post("junk")) == (401, "token_missing")
        limited = await server.post(OFFER, Authorization="Bearer alice")
        assert problem_of(limited) == (429, "http.too_many_calls")


async def test_s02_a_principal_is_limited_wherever_it_comes_from() -> None:
    async with whip_server(
        authenticate=only_alice, routes={"limits": CallLimits(calls_per_minute=2)}, client=STRANGER
    ) as server:
        transport = server.http._transport
        assert isinstance(transport, httpx.ASGITransport)
        statuses = []
        for index in range(3):
            transport.client = (f"192.0.2.{index}", 1)
            statuses.append((await server.post(OFFER, Authorization="Bearer alice")).status_code)
        assert statuses == [201, 201, 429]


async def test_s02_calls_that_do_not_connect_are_few_and_gone_after_the_deadline() -> None:
    async with whip_server(
        routes={"limits": CallLimits(max_pending_calls=2)}, client=STRANGER, setup_timeout_ms=200
    ) as server:
        assert [(await server.post(OFFER)).status_code for _ in range(2)] == [201, 201]
        assert problem_of(await server.post(OFFER)) == (429, "http.too_many_pending")
        ended = 0

        def is_last_end(record: object) -> bool:
            nonlocal ended
            ended += isinstance(record, EndCommand)
            return ended == 2

        await server.heard(is_last_end)
        assert (await server.post(OFFER)).status_code == 201


async def test_s02_connected_calls_are_not_pending() -> None:
    limits = CallLimits(max_pending_calls=1, max_calls=2)
    async with (
        whip_server(routes={"limits": limits}, client=STRANGER) as server,
        calling(server),
        calling(server),
    ):
        assert problem_of(await server.post(OFFER)) == (429, "http.too_many_open")


async def test_s02_this_machine_opens_as_many_calls_as_there_are_lines() -> None:
    limits = CallLimits(calls_per_minute=1, max_pending_calls=1, max_calls=1)
    async with whip_server(routes={"limits": limits}, max_sessions=100) as server:
        assert {(await server.post(OFFER)).status_code for _ in range(100)} == {201}


async def test_s03_s04_addresses_that_callers_name_get_no_packet() -> None:
    with victim() as bound:
        async with whip_server() as server:
            lines = "".join(f"a=candidate:{named(bound, index)}\n" for index in range(1, 31))
            created = await server.post(OFFER + lines + "a=end-of-candidates\n")
            assert created.status_code == 201
            patched = await server.http.patch(
                created.headers["Location"],
                content=fragment(candidate=named(bound)),
                headers={"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"},
            )
            assert patched.status_code == 204
            async with calling(server):
                await anyio.sleep(0.3)
        assert packets_at(bound) == 0


@pytest.mark.parametrize(("networks", "is_probed"), [((), False), (("127.0.0.0/8",), True)])
async def test_s04_once_allowed_only_named_private_networks_are_probed(
    networks: tuple[str, ...], is_probed: bool
) -> None:
    probed = tuple(ip_network(each) for each in networks)
    with victim() as bound:
        async with whip_server(allow_remote_candidates=True, probe_networks=probed) as server:
            await server.post(OFFER + f"a=candidate:{named(bound)}\n")
            await anyio.sleep(0.3)
        assert bool(packets_at(bound)) is is_probed


async def test_s04_an_end_without_candidates_still_gets_an_answer_with_some_and_a_call() -> None:
    async with whip_server() as server:
        caller = Caller()
        offer = re.sub(r"a=candidate.*\r\n", "", await caller.offer())
        assert "a=end-of-candidates" in offer
        response = await server.post(offer)
        assert "a=candidate:" in response.text
        await caller.connect(response.text)
        await caller.close()


async def test_s05_session_urls_are_secrets_that_no_log_or_id_tells() -> None:
    async with whip_server(authenticate=only_alice) as server:
        with capture_logs() as lines:
            created = await server.post(OFFER, Authorization="Bearer alice")
            location = created.headers["Location"]
            secret = location.rpartition("/")[2]
            bob = {"Authorization": "Bearer bob"}
            foreign = await server.http.delete(location, headers=bob)
            unknown = await server.http.delete(location[:-1] + "~", headers=bob)
        assert len(secret) == 32
        assert secret not in str(lines)
        assert created.headers["X-Session-ID"] not in location
        assert (
            (foreign.status_code, foreign.content)
            == (unknown.status_code, unknown.content)
            == (404, foreign.content)
        )


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
async def test_s06_the_url_alone_is_no_permission(method: str) -> None:
    async with whip_server(authenticate=only_alice) as server:
        created = await server.post(OFFER, Authorization="Bearer alice")
        location = created.headers["Location"]
        assert (await server.http.request(method, location)).status_code == 401
        for foreign in ({"Authorization": "Bearer bob"}, {"X-Session-Token": "vst_other"}):
            assert (await server.http.request(method, location, headers=foreign)).status_code == 404
        assert len(server.legs) == 1


async def test_s07_a_proposed_id_is_a_name_and_opens_nothing() -> None:
    proposed = "session_1753590741399_qlgq6cfjw"
    async with (
        serve_scripted(scripted_engines(), auth={"key": KEY}) as served,
        httpx.AsyncClient(base_url=served.url) as http,
    ):

        async def post(principal: str, name: str = proposed) -> httpx.Response:
            headers = {**SDP, "Authorization": bearer(principal), "X-Session-ID": name}
            return await http.post("/whip", content=OFFER, headers=headers)

        alice, bob, again = await post("alice"), await post("bob"), await post("alice")
        assert alice.status_code == 201
        assert alice.headers["X-Frontend-Session-ID"] == proposed != alice.headers["X-Session-ID"]
        if bob.status_code == 201:
            assert bob.headers["X-Session-ID"] != alice.headers["X-Session-ID"]
            assert bob.headers["X-Session-Token"] != alice.headers["X-Session-Token"]
        else:
            assert bob.status_code in (403, 404, 409)
        assert again.headers.get("X-Session-ID") != bob.headers.get("X-Session-ID") or again.status_code == 409
        for name in ("a" * 300, "session_1753590741399_\x7f"):
            assert (await post("alice", name)).status_code == 400


async def test_s08_a_resume_token_serves_once_and_the_old_url_is_gone() -> None:
    async with (
        serve_scripted(scripted_engines(), auth={"key": KEY}) as served,
        httpx.AsyncClient(base_url=served.url) as http,
    ):
        created = await http.post("/whip", content=OFFER, headers=SDP | {"Authorization": bearer("alice")})
        token = created.headers["X-Resume-Token"]
        assert len(token) >= 43
        resumed = await http.post("/whip", content=OFFER, headers=SDP | {"X-Resume-Token": token})
        assert resumed.status_code == 201
        assert resumed.headers["X-Resume-Token"] != token
        used = await http.post("/whip", content=OFFER, headers=SDP | {"X-Resume-Token": token})
        assert (used.status_code, used.json()["code"]) == (401, "resume_token_invalid")
        old = {"X-Session-Token": resumed.headers["X-Session-Token"]}
        assert (await http.get(created.headers["Location"], headers=old)).status_code == 404
        in_url = await http.post(
            f"/whip?resume={resumed.headers['X-Resume-Token']}", content=OFFER, headers=SDP
        )
        assert in_url.status_code == 401


async def test_s09_only_named_origins_are_allowed_and_no_cookies() -> None:
    async with whip_server(routes={"cors_origins": ["https://app.example"]}) as server:
        allowed = await server.post(OFFER, Origin="https://app.example")
        assert allowed.headers["Access-Control-Allow-Origin"] == "https://app.example"
        for origin in ("https://evil.example", "https://app.example.evil.example", "null"):
            other = await server.post(OFFER, Origin=origin)
            assert "Access-Control-Allow-Origin" not in other.headers
            assert other.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in allowed.headers
        assert "Set-Cookie" not in allowed.headers


@pytest.mark.parametrize(
    ("token", "status"),
    [
        (bearer("alice", ttl_s=-60), 401),
        (bearer("alice", audience="other"), 401),
        (bearer("alice", scope=Scope.READ_EVENTS), 403),
        ("Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.", 401),
        (bearer("alice"), 201),
    ],
    ids=["expired", "audience", "scope", "alg-none", "good"],
)
async def test_s10_tokens_are_checked_in_full(token: str, status: int) -> None:
    async with whip_server(authenticate=real_tokens) as server:
        assert (await server.post(OFFER, Authorization=token)).status_code == status


async def test_s10_a_session_outlives_its_token_and_can_be_ended_by_its_own() -> None:
    async with whip_server(authenticate=real_tokens) as server:
        created = await server.post(OFFER, Authorization=bearer("alice"))
        location = created.headers["Location"]
        expired = {"Authorization": bearer("alice", ttl_s=-60)}
        assert problem_of(await server.http.delete(location, headers=expired)) == (401, "token_expired")
        own = {"X-Session-Token": created.headers["X-Session-Token"]}
        assert (await server.http.delete(location, headers=own)).status_code == 200


async def test_s10_nothing_secret_is_logged() -> None:
    servers = IceServers(["turn:turn.example.org"], "shared secret")
    async with whip_server(authenticate=real_tokens, routes={"ice_servers": servers}) as server:
        token = bearer("alice")
        with capture_logs() as lines:
            created = await server.post(OFFER, Authorization=token)
            await server.post("v=0\nbroken", Authorization=token, X_Resume_Token="vrt_broken")
        shown = str(lines)
    (link,) = created.headers.get_list("Link")
    (credential,) = re.findall(r'credential="([^"]+)"', link)
    for secret in (token.split()[1], credential, "shared secret", "0123456789012345678901", "vrt_", "vst_"):
        assert secret not in shown


@pytest.mark.parametrize(("proxies", "status"), [((), 201), (("127.0.0.0/8",), 429)])
async def test_s11_only_a_configured_proxy_says_where_a_request_comes_from(
    proxies: tuple[str, ...], status: int
) -> None:
    http = {"port": 0, "trusted_proxies": proxies, "calls_per_minute": 1}
    async with (
        serve_scripted(scripted_engines(), http=http) as served,
        httpx.AsyncClient(base_url=served.url) as client,
    ):
        forwarded = SDP | {"X-Forwarded-For": "10.9.9.9, 192.0.2.66", "X-Forwarded-Proto": "https"}
        first = await client.post("/whip", content=OFFER, headers=forwarded)
        assert first.headers["Location"].startswith("https:" if proxies else "http:")
        spoofed = forwarded | {"X-Forwarded-For": "10.8.8.8, 192.0.2.66"}
        assert (await client.post("/whip", content=OFFER, headers=spoofed)).status_code == status
        assert (await client.post("/whip", content=OFFER, headers=SDP)).status_code == 201


async def test_s12_a_peer_with_another_certificate_than_it_offered_is_not_heard() -> None:
    async with whip_server() as server:
        caller = Caller()
        offer = re.sub(r"a=fingerprint:.*\r\n", "", await caller.offer())
        forged = offer.replace("a=setup", f"a=fingerprint:sha-256 {':'.join(['AB'] * 32)}\r\na=setup", 1)
        response = await server.post(forged)
        assert response.status_code == 201
        with anyio.move_on_after(1):
            await caller.connect(response.text)
        await server.legs.end_all("test")
        assert ("connected", response.headers["X-Session-ID"]) not in server.door.story
        assert ("ended", response.headers["X-Session-ID"], "never_connected") in server.door.story
        await caller.close()


async def test_s13_each_call_has_turn_credentials_of_its_own_that_expire() -> None:
    servers = IceServers(["turn:turn.example.org"], "shared", ttl_s=600)
    async with whip_server(authenticate=only_alice, routes={"ice_servers": servers}) as server:
        users = []
        for _ in range(2):
            created = await server.post(OFFER, Authorization="Bearer alice")
            (user,) = re.findall(r'username="(\d+):([^"]+)"', created.headers["Link"])
            assert 590 <= int(user[0]) - now_ms() // 1000 <= 600
            assert user[1] == created.headers["X-Session-ID"]
            users.append(user[1])
        assert len({*users}) == 2
        assert "Link" not in (await server.post(OFFER)).headers


async def test_s14_a_peer_that_floods_is_cut_short_and_then_off() -> None:
    async with whip_server() as server, calling(server) as (caller, _response):
        for index in itertools.count():
            caller.link.send(b"\xf8" + bytes(100))
            if index % 50 == 0:
                await anyio.sleep(0.01)
            if index > 20_000 or any(each[0] == "lost" for each in server.door.story):
                break
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1].reason == "flood"  # type: ignore[union-attr]
        audio = (each for each in records if isinstance(each, AudioRecord))
        heard = [packet for each in audio for packet in each.packets if packet]
        assert len(heard) < 1_000


async def test_s15_strangers_who_send_stun_get_no_answer() -> None:
    async with whip_server() as server:
        answer = (await server.post(OFFER)).text
        _host, port = re.findall(r"a=candidate:1 1 udp \d+ (\S+) (\d+)", answer)[0]
        (ufrag,) = set(re.findall(r"a=ice-ufrag:(\S+)", answer))
        with victim() as bound:
            for user in (None, "abcd:efgh", f"{ufrag}:abcd"):
                request = stun.Message(stun.Method.BINDING, stun.Class.REQUEST)
                if user is not None:
                    request.attributes["USERNAME"] = user
                    request.add_message_integrity(b"not the password")
                bound.sendto(bytes(request), ("127.0.0.1", int(port)))
            for junk in (
                b"",
                b"\x00",
                b"\x00\x01\xff\xff" + bytes(16),
                bytes(1_400),
                b"\x16\xfe\xfd" + bytes(30),
            ):
                bound.sendto(junk, ("127.0.0.1", int(port)))
            await anyio.sleep(0.2)
            assert packets_at(bound) == 0


async def test_s16_a_caller_that_opens_channels_without_end_is_cut_off_and_others_only_ignored() -> None:
    async with whip_server() as server, calling(server, data=True) as (caller, response):
        channel = caller.connection.createDataChannel("large")
        channel.on("open", lambda: channel.send("x" * 60_000))
        await server.say(stamp_of(response).audio((b"\xf8audible",), timestamp=0, turn_id=1))
        await caller.until(lambda: b"\xf8audible" in caller.voice)
        for index in range(20):
            caller.connection.createDataChannel(str(index))
        records = await server.heard(lambda record: isinstance(record, PeerLost))
        assert records[-1] == PeerLost(reason="too_many_channels", turn_id=1, heard_ms=20)


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_s17_no_offer_and_no_fragment_is_an_error_of_ours(data: st.DataObject) -> None:
    texts = [path.read_bytes() for path in sorted(CORPUS.glob("*.sdp"))]
    body = bytearray(data.draw(st.sampled_from(texts)))
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(body)))
        body[at : at + data.draw(st.integers(0, 40))] = data.draw(st.binary(max_size=40))

    async def send() -> None:
        async with whip_server() as server:
            posted = await server.http.post("/whip", content=bytes(body), headers=SDP)
            assert posted.status_code in (201, 400, 413, 422)
            location = (await server.post(OFFER.replace("BUNDLE 0", "BUNDLE 0 d") + DATA)).headers["Location"]
            headers = {"Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*"}
            patched = await server.http.patch(location, content=bytes(body), headers=headers)
            assert patched.status_code in (204, 400, 413, 422)
            assert all("Traceback" not in each.text for each in (posted, patched))
            assert (await server.http.delete(location)).status_code == 200

    anyio.run(send)


async def test_s18_over_tls_browsers_are_told_to_stay_there(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    write_certificate(certificate, key)
    config = HttpConfig(port=0, tls_cert=certificate, tls_key=key)
    async with whip_server() as server:
        transport = server.http._transport
        assert isinstance(transport, httpx.ASGITransport)
        bound = bind(config)
        async with (
            open_http(transport.app, config, bound),  # type: ignore[arg-type]
            httpx.AsyncClient(
                base_url=url_of(config, bound), verify=ssl.create_default_context(cafile=certificate)
            ) as http,
        ):
            created = await http.post("/whip", content=OFFER, headers=SDP)
            assert created.status_code == 201
            assert created.headers["Location"].startswith("https://")
            assert "max-age=" in created.headers["Strict-Transport-Security"]
            assert created.headers["X-Content-Type-Options"] == "nosniff"


def test_s18_strangers_are_not_served_without_a_key() -> None:
    check_bind("127.0.0.1", None)
    with pytest.raises(SessionError) as refused:
        check_bind("0.0.0.0", None)
    assert refused.value.code == "key_missing"
