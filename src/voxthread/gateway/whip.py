"""WHIP (RFC 9725): POST an offer, get an answer; PATCH candidates; DELETE to hang up.

The endpoint is `/whip[?agent=NAME]`; each answered offer gets a resource of its own, `/whip/sessions/<secret>`,
whose name holds 192 random bits and no session id. Audio comes back on the same connection when the offer is
`sendrecv`: the one deviation from the RFC, off in strict mode.
"""

import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from structlog.contextvars import bind_contextvars

from voxthread.core.failures import SessionError
from voxthread.gateway.body import read_text
from voxthread.gateway.cors import Cors
from voxthread.gateway.door import OpenedSession
from voxthread.gateway.ice_servers import IceServers
from voxthread.gateway.limits import CallLimits, Limiter, address_key
from voxthread.gateway.problem import RETRY_AFTER_S, RequestError
from voxthread.gateway.resource import Resource
from voxthread.gateway.whip_ports import Connection, Peers, WhipDoor
from voxthread.gateway.whip_rules import Credentials, PatchDecision, decide_patch, read_credentials
from voxthread.observability.clock import now_ms
from voxthread.observability.logs import get_logger
from voxthread.sessions.tokens import ANONYMOUS_PREFIX, is_anonymous

SDP = "application/sdp"
FRAGMENT = "application/trickle-ice-sdpfrag"
MAX_OFFER_BYTES = 64 * 1024
MAX_FRAGMENT_BYTES = 16 * 1024

_SESSIONS = "/whip/sessions"
_FIRST_SWEEP = 128
"""Resources at which the ended ones are looked for; then at twice those that live, so that none costs all."""

_TOKEN_HOLDER = f"{ANONYMOUS_PREFIX}token_holder"
"""Principal of a request that proves itself by a session token or a resume token alone."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Resource:
    session_id: str
    etag: str
    connection: Connection
    callers: frozenset[str]
    """The address and the principal that asked for it, as the limits know them."""


def whip_cors(origins: Sequence[str]) -> Cors:
    """What pages of other origins may send, and read of every answer."""
    return Cors(
        origins,
        methods=("POST", "PATCH", "DELETE", "OPTIONS", "GET"),
        request_headers=(
            "Authorization",
            "Content-Type",
            "If-Match",
            "X-Session-ID",
            "X-Session-Token",
            "X-Resume-Token",
        ),
        exposed_headers=(
            "Location",
            "Link",
            "ETag",
            "Retry-After",
            "WWW-Authenticate",
            "Accept-Patch",
            "X-Session-ID",
            "X-Frontend-Session-ID",
            "X-Session-Token",
            "X-Resume-Token",
        ),
    )


def create_whip_routes(
    door: WhipDoor,
    peers: Peers,
    *,
    authenticate: Callable[[str | None], str],
    public_url: str | None = None,
    cors_origins: Sequence[str] = ("*",),
    limits: CallLimits | None = None,
    ice_servers: IceServers | None = None,
) -> list[BaseRoute]:
    """The routes of `/whip` and of its session resources.

    `authenticate` names the principal of a bearer token, or an anonymous one; it raises `SessionError` for a
    token that is missing or wrong. `public_url` is the base of `Location`; None takes the request's own.
    """
    whip = _Whip(
        door, peers, authenticate, public_url, Limiter(limits or CallLimits()), ice_servers or IceServers()
    )
    cors = whip_cors(cors_origins)
    get = {"OPTIONS": whip.options, "GET": whip.get, "HEAD": whip.get}
    endpoint = Resource({"POST": whip.post, **get}, cors)
    session = Resource({"PATCH": whip.patch, "DELETE": whip.delete, **get}, cors)
    return [Route("/whip", endpoint), Route(f"{_SESSIONS}/{{secret}}", session)]


class _Whip:
    """The endpoint and the resources it has handed out."""

    def __init__(
        self,
        door: WhipDoor,
        peers: Peers,
        authenticate: Callable[[str | None], str],
        public_url: str | None,
        limiter: Limiter,
        ice_servers: IceServers,
    ) -> None:
        self._door = door
        self._peers = peers
        self._authenticate = authenticate
        self._public_url = public_url
        self._limiter = limiter
        self._ice_servers = ice_servers
        self._resources: dict[str, _Resource] = {}
        self._sweep_at = _FIRST_SWEEP

    async def post(self, request: Request) -> Response:
        address = address_key(request)
        self._limiter.admit_call(address)
        resume_token = request.headers.get("x-resume-token")
        credentials, principal = self._identify(request, resume_token)
        is_new = credentials.session_token is None and resume_token is None
        callers = self._limit(address, principal, is_new=is_new)
        if is_new and not self._peers.has_room():
            raise RequestError(
                503,
                "whip.full",
                f"All lines are taken; try again in {RETRY_AFTER_S} s.",
                {"Retry-After": str(RETRY_AFTER_S)},
            )
        offer = await read_text(request, media_type=SDP, accept_header="Accept-Post", max_bytes=MAX_OFFER_BYTES)
        self._peers.check_offer(offer)
        session = await self._open(request, principal, credentials.session_token, resume_token)
        bind_contextvars(session_id=session.session_id, frontend_session_id=session.frontend_session_id)
        connection = await self._connect(session, offer)
        resource = _Resource(session.session_id, f'"{secrets.token_hex(8)}"', connection, callers)
        secret = self._keep(resource)
        log.info("whip.answered", is_new=session.is_new)
        headers = {
            "Location": f"{self._base_url(request)}{_SESSIONS}/{secret}",
            "ETag": resource.etag,
            "Accept-Patch": FRAGMENT,
            "X-Session-ID": session.session_id,
            "X-Frontend-Session-ID": session.frontend_session_id,
            "X-Session-Token": session.token,
        }
        if session.resume_token is not None:
            headers["X-Resume-Token"] = session.resume_token
        response = Response(connection.answer, 201, headers, media_type=SDP)
        self._add_links(response, session.session_id)
        return response

    async def patch(self, request: Request) -> Response:
        resource = self._resource(request)
        fragment = await read_text(
            request, media_type=FRAGMENT, accept_header="Accept-Patch", max_bytes=MAX_FRAGMENT_BYTES
        )
        is_restart = resource.connection.is_restart(fragment)
        match decide_patch(request.headers.get("if-match"), resource.etag, is_restart=is_restart):
            case PatchDecision.TRICKLE:
                await resource.connection.trickle(fragment)
                return Response(status_code=204)
            case PatchDecision.RESTART:
                raise RequestError(
                    422,
                    "whip.no_ice_restart",
                    "ICE restart is not supported, the call goes on as it was. To move it to another network, "
                    "POST a new offer to /whip with the X-Resume-Token of the 201: the conversation continues.",
                )

    async def delete(self, request: Request) -> Response:
        """Whatever its If-Match says (RFC 9725 section 4.3.1)."""
        resource = self._resource(request)
        del self._resources[request.path_params["secret"]]
        await resource.connection.close("hung_up")
        return Response(status_code=200)

    async def get(self, request: Request) -> Response:
        self._limiter.admit_request(address_key(request))
        if "secret" in request.path_params:
            self._resource(request)
        return Response(status_code=204)

    async def options(self, request: Request) -> Response:
        """A CORS preflight, or a client's question for the servers it is to use before it makes its offer."""
        if "secret" in request.path_params:
            return Response(headers={"Accept-Patch": FRAGMENT})
        response = Response(headers={"Accept-Post": SDP})
        if self._ice_servers.urls and "access-control-request-method" not in request.headers:
            self._limiter.admit_request(address_key(request))
            # Relays are only for those who may call, by a token that is checked here; the rest needs none.
            with suppress(SessionError):
                self._authenticate(read_credentials(request.headers.get("authorization"), None).bearer)
                self._add_links(response, secrets.token_hex(8))
        return response

    def _add_links(self, response: Response, name: str) -> None:
        for link in self._ice_servers.links(name, now_ms() // 1000):
            response.headers.append("Link", link)

    def _limit(self, address: str, principal: str, *, is_new: bool) -> frozenset[str]:
        """The caller as its limits know it. Raises `RequestError` 429."""
        if not address:
            return frozenset()
        callers = {address}
        if not is_anonymous(principal):
            callers.add(shown := f"principal {principal}")
            self._limiter.admit_call(shown)
        for caller in callers:
            self._limiter.admit_one_more(
                (
                    each.connection.is_connected
                    for each in self._resources.values()
                    if caller in each.callers and not each.connection.is_closed
                ),
                is_new=is_new,
            )
        return frozenset(callers)

    def _identify(self, request: Request, resume_token: str | None = None) -> tuple[Credentials, str]:
        credentials = read_credentials(
            request.headers.get("authorization"), request.headers.get("x-session-token")
        )
        shows_token = credentials.session_token is not None or resume_token is not None
        if credentials.bearer is None and shows_token:
            return credentials, _TOKEN_HOLDER
        return credentials, self._authenticate(credentials.bearer)

    def _resource(self, request: Request) -> _Resource:
        """The resource the URL names, if the request may use it. Foreign and unknown ones look alike."""
        self._limiter.admit_request(address_key(request))
        credentials, principal = self._identify(request)
        unknown = RequestError(404, "whip.no_session", "There is no such WHIP session, or it is over.")
        resource = self._resources.get(request.path_params["secret"])
        if resource is None or resource.connection.is_closed:
            raise unknown
        bind_contextvars(session_id=resource.session_id)
        # In open mode nobody has a token to show, and the secret URL is the permission.
        if credentials.session_token is not None or not is_anonymous(principal):
            try:
                self._door.authorize(
                    resource.session_id, principal=principal, session_token=credentials.session_token
                )
            except SessionError as refusal:
                log.info("whip.foreign", code=refusal.code)
                raise unknown from None
        return resource

    async def _open(
        self, request: Request, principal: str, session_token: str | None, resume_token: str | None
    ) -> OpenedSession:
        frontend_session_id = request.headers.get("x-session-id")
        if resume_token is not None:
            return await self._door.resume(
                resume_token, principal=principal, frontend_session_id=frontend_session_id
            )
        return await self._door.open(
            frontend_session_id=frontend_session_id,
            principal=principal,
            session_token=session_token,
            agent=request.query_params.get("agent"),
            via="whip",
        )

    async def _connect(self, session: OpenedSession, offer: str) -> Connection:
        try:
            return await self._peers.connect(session.session_id, offer)
        except BaseException:
            # Cancelled or refused: a session nobody can reach must not stay behind.
            if session.is_new:
                self._peers.end(session.session_id, "not_connected")
            else:
                self._door.peer_lost(session.session_id)
            raise

    def _keep(self, resource: _Resource) -> str:
        """Store a resource under a new secret, and now and then forget those whose connection has ended."""
        if len(self._resources) >= self._sweep_at:
            self._resources = {
                secret: each for secret, each in self._resources.items() if not each.connection.is_closed
            }
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._resources))
        secret = secrets.token_urlsafe(24)
        self._resources[secret] = resource
        return secret

    def _base_url(self, request: Request) -> str:
        return (self._public_url or str(request.base_url)).rstrip("/")
