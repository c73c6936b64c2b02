"""Whatever is sent to the doors and the API of a whole server: no 5xx, no crash, and refusals as documented."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPResponse
from socket import create_connection
from urllib.parse import quote, urlsplit

import httpx
import pytest
import schemathesis
from anyio.from_thread import start_blocking_portal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import negative_data_rejection
from websockets.sync.client import connect

from integration.test_whip_http import OFFER
from scripted_server import KEY, NumberAgent, engines, running_server
from voxthread.core.ids import refusal
from voxthread.sessions.errors import HTTP_STATUS
from voxthread.sessions.tokens import Scope, mint_token

pytestmark = pytest.mark.integration

ADMIN = mint_token(
    KEY,
    algorithm="HS256",
    audience="voxthread",
    principal="root",
    scopes=[Scope.ADMIN],
    expires_at_s=4_000_000_000,
)
PATIENT = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

HEADER_VALUES = st.one_of(
    st.binary(max_size=200).map(lambda value: value.translate(None, b"\r\n")),
    st.from_regex(r"session_[0-9a-z]{0,17}_?[0-9a-z'\"; -]{0,12}", fullmatch=True).map(
        lambda text: text.strip().encode()
    ),
    st.sampled_from(
        [
            b"session_1753590741399_qlgq6cfjw",
            b"session_1753590741399_x%0d%0aSet-Cookie: a=b",
            b"session_1753590741399_x\r\nX-Session-Token: vst_smuggled",
            b"' OR 1=1 --",
            b"../../etc/passwd",
            "session_\u0661\u0667\u0665_qlgq6cfjw_aaa".encode(),
            b"session_" + b"_" * 5_000,
            b"9" * 20_000,
        ]
    ),
)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)
BINDINGS = st.fixed_dictionaries(
    {"type": st.just("session.bind")},
    optional={
        "token": JSON | st.just("vst_" + "A" * 43),
        "session_id": JSON | st.from_regex(r"session_\d{13,16}_\w{8,9}"),
        "frontend_session_id": JSON | st.from_regex(r"session_\d{13}_.{0,9}"),
        "last_event_id": JSON | st.integers(-(2**70), 2**70),
        "agent": JSON,
        "surplus": JSON,
    },
)


@contextmanager
def _serving(**sections: object) -> Iterator[str]:
    """The server in a thread of its own, for clients that are not asynchronous."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(running_server(engines(NumberAgent()), **sections)) as running,
    ):
        yield running.url


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with _serving(media={"max_sessions": 2_000}) as url:
        yield url


@pytest.fixture(scope="module")
def api() -> Iterator[schemathesis.schemas.BaseSchema]:
    with _serving(auth={"key": KEY}) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/sessions/{any_id}", "/v1/sessions/{any_id}/events"])
def test_the_api_answers_as_its_openapi_says(api: schemathesis.schemas.BaseSchema, path: str) -> None:
    cases = st.one_of(
        api[path]["GET"].as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode
    )

    @PATIENT
    @given(case=cases)
    def ask(case: schemathesis.Case) -> None:
        # parameters that nobody knows are ignored, as unknown fields are everywhere
        case.call_and_validate(
            headers={"Authorization": f"Bearer {ADMIN}"}, excluded_checks=[negative_data_rejection]
        )

    ask()


def post(url: str, target: str, *headers: tuple[bytes, bytes]) -> tuple[HTTPResponse, bytes]:
    """POST an offer with headers as they are: a client library would not send most of these."""
    address = urlsplit(url)
    assert address.port is not None
    with create_connection(("127.0.0.1", address.port), timeout=10) as connection:
        lines = [
            f"POST {target} HTTP/1.1".encode(),
            b"Host: " + address.netloc.encode(),
            b"Connection: close",
            b"Content-Type: application/sdp",
            b"Content-Length: %d" % len(OFFER),
            *(name + b": " + value for name, value in headers),
        ]
        connection.sendall(b"\r\n".join(lines) + b"\r\n\r\n" + OFFER.encode())
        response = HTTPResponse(connection)
        response.begin()
        return response, response.read()


@PATIENT
@given(
    name=HEADER_VALUES,
    session_token=st.none() | HEADER_VALUES,
    authorization=st.none() | HEADER_VALUES,
    agent=st.none() | st.text(max_size=20),
)
def test_any_headers_at_whip_are_an_answer_or_a_refusal_with_a_code(
    url: str, name: bytes, session_token: bytes | None, authorization: bytes | None, agent: str | None
) -> None:
    headers = [(b"X-Session-ID", name)]
    headers += [(b"X-Session-Token", session_token)] if session_token is not None else []
    headers += [(b"Authorization", authorization)] if authorization is not None else []
    response, body = post(url, f"/whip?agent={quote(agent)}" if agent else "/whip", *headers)
    if response.status == 201:
        assert refusal(name.decode("latin-1")) is None
        assert httpx.delete(response.headers["Location"], trust_env=False).status_code == 200
    elif response.headers["Content-Type"] == "application/problem+json":
        assert HTTP_STATUS[json.loads(body)["code"]] == response.status
    else:  # the HTTP parser itself took offence
        assert response.status in {400, 431}
    assert httpx.get(f"{url}/readyz", trust_env=False).status_code == 200


@PATIENT
@given(message=BINDINGS)
def test_any_binding_is_bound_or_refused_with_a_code_and_the_socket_stays(
    url: str, message: dict[str, object]
) -> None:
    with connect(url.replace("http", "ws", 1) + "/ws", proxy=None) as socket:
        socket.send(json.dumps(message))
        answer = json.loads(socket.recv(timeout=10))
        assert answer["type"] in {"session.bound", "error"}
        if answer["type"] == "error":
            assert answer["code"] in HTTP_STATUS or answer["code"] in {"message.bad_field", "session_mismatch"}
            socket.send(json.dumps({"type": "ping", "id": 1}))
            assert json.loads(socket.recv(timeout=10)) == {"type": "pong", "id": 1}
        else:
            socket.send(json.dumps({"type": "command.end"}))


@PATIENT
@given(text=st.text(max_size=300) | JSON.map(json.dumps))
def test_any_text_on_a_socket_is_an_error_event_and_the_socket_stays(url: str, text: str) -> None:
    with connect(url.replace("http", "ws", 1) + "/ws", proxy=None) as socket:
        socket.send(text)
        assert json.loads(socket.recv(timeout=10))["type"] == "error"
        socket.send(json.dumps({"type": "ping", "id": 1}))
        assert json.loads(socket.recv(timeout=10)) == {"type": "pong", "id": 1}
