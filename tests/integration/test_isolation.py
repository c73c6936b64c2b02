"""A thousand sessions at once at one gateway, their ids exchanged in every order: no cross-talk, no wrong name.

Callers come in pairs that propose the same frontend id under two principals. Each comes in by either door,
tries what is not allowed, loses its socket and comes back, and says only what nobody else says.
"""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect

from integration.session_crowd import Crowd, allow_sockets, open_crowd
from voxthread.sessions.identity import SessionIdMint

pytestmark = [pytest.mark.integration, pytest.mark.anyio]

CALLERS = 1_000
ARRIVING_AT_ONCE = 50
"""How many are on their way in at a time; all stay. More would only wait in the listening socket's queue."""

REQUESTS_AT_ONCE = 16
"""The test's own HTTP client looks through all its requests for each of them."""

SAYINGS = 6
INVALID_IDS = {
    "short": "too_short",
    "sitzung_1753590741399_qlgq6cfjw": "bad_prefix",
    "session_1753590741399qlgq6cfjw": "too_few_parts",
    "session_17535907413x9_qlgq6cfjw": "timestamp_not_numeric",
    "session_1753590741399_": "empty_random_part",
    "session_1753590741399_a b": "bad_character",
    "session_1753590741399_" + "a" * 200: "too_long",
}


@dataclass(slots=True)
class Caller:
    number: int
    principal: str
    proposes: str | None
    chance: random.Random
    session_id: str = ""
    alias: str = ""
    token: str = ""
    resource: str | None = None
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.principal}"}

    def says(self, saying: int) -> str:
        return f"caller {self.number} says {saying}"


class Gathering:
    """Callers wait here until everybody has come."""

    def __init__(self, callers: int) -> None:
        self._missing = callers
        self._complete = anyio.Event()

    async def wait(self) -> None:
        self._missing -= 1
        if not self._missing:
            self._complete.set()
        await self._complete.wait()


class Http:
    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client
        self._turn = anyio.Semaphore(REQUESTS_AT_ONCE)

    async def post(self, headers: dict[str, str]) -> httpx.Response:
        headers = {"Content-Type": "application/sdp", **headers}
        async with self._turn:
            return await self._client.post("/whip", content=b"v=0", headers=headers)

    async def delete(self, resource: str, headers: dict[str, str]) -> httpx.Response:
        async with self._turn:
            return await self._client.delete(resource, headers=headers)


class Visit:
    """One caller's way through the gateway, checked at every step."""

    def __init__(self, crowd: Crowd, http: Http, caller: Caller, others: list[Caller]) -> None:
        self._crowd = crowd
        self._http = http
        self._caller = caller
        self._others = others

    async def come_in(self) -> None:
        chance = self._caller.chance
        if chance.random() < 0.5:
            await self._whip_first()
        else:
            await self._socket_first()
        self.check_names()
        if chance.random() < 0.3:
            await self._try_what_is_another_callers()
            self.check_names()

    async def stay(self) -> None:
        """Half is said by the first socket and half by the next, which sees what the first did not."""
        caller = self._caller
        async with self.socket() as socket:
            await self._bind(socket, token=caller.token)
            await self._talk(socket, range(SAYINGS // 2))
            if caller.chance.random() < 0.3:
                await self._be_refused_another_session(socket)
        self.check_names()
        async with self.socket() as socket:
            await self._bind(socket, token=caller.token, last_event_id=caller.events[-1]["seq"])
            await self._talk(socket, range(SAYINGS // 2, SAYINGS))
            self.check_names()
            await self._leave(socket)
        self.check_story()

    # -- in by either door -------------------------------------------------------------------------------

    async def _whip_first(self) -> None:
        caller = self._caller
        if caller.chance.random() < 0.3:
            await self._post_invalid_id()
        headers = {} if caller.proposes is None else {"X-Session-ID": caller.proposes}
        response = await self._post(headers)
        assert response.status_code == 201, response.text
        self._know(
            response.headers["X-Session-ID"],
            response.headers["X-Frontend-Session-ID"],
            response.headers["X-Session-Token"],
        )
        caller.resource = response.headers["Location"]
        assert caller.alias == (caller.proposes or caller.session_id)

    async def _socket_first(self) -> None:
        caller = self._caller
        async with self.socket() as socket:
            if caller.chance.random() < 0.3:
                await self._bind_invalid_id(socket)
            named = {} if caller.proposes is None else {"frontend_session_id": caller.proposes}
            bound = await self._bind(socket, **named)
            self._know(bound["session_id"], bound["frontend_session_id"], bound["token"])
            assert caller.alias == (caller.proposes or caller.session_id)
        self.check_names()
        late = SessionIdMint().frontend_session_id() if caller.proposes is None else None
        response = await self._post(
            {"X-Session-Token": caller.token, **({} if late is None else {"X-Session-ID": late})}
        )
        assert response.status_code == 201, response.text
        assert response.headers["X-Session-ID"] == caller.session_id
        caller.alias = late or caller.alias
        assert response.headers["X-Frontend-Session-ID"] == caller.alias
        caller.resource = response.headers["Location"]

    def _know(self, session_id: str, alias: str, token: str) -> None:
        assert all(session_id != other.session_id and token != other.token for other in self._others)
        self._caller.session_id, self._caller.alias, self._caller.token = session_id, alias, token

    # -- what must be refused ----------------------------------------------------------------------------

    async def _post_invalid_id(self) -> None:
        wrong, rule = self._caller.chance.choice([*INVALID_IDS.items()])
        response = await self._post({"X-Session-ID": wrong})
        assert (response.status_code, response.json()["code"]) == (400, rule)

    async def _bind_invalid_id(self, socket: ClientConnection) -> None:
        wrong, rule = self._caller.chance.choice([*INVALID_IDS.items()])
        await _send(socket, type="session.bind", frontend_session_id=wrong)
        assert (await _receive(socket))["code"] == rule
        await _send(socket, type="ping", id=7)
        assert await _receive(socket) == {"type": "pong", "id": 7}

    async def _try_what_is_another_callers(self) -> None:
        other = self._other_inside()
        if other is None:
            return
        response = await self._post({"X-Session-Token": other.token})
        assert (response.status_code, response.json()["code"]) == (403, "session_forbidden")
        response = await self._post({"X-Session-ID": self._caller.alias})
        in_use = self._caller.alias != self._caller.session_id
        if in_use:
            assert (response.status_code, response.json()["code"]) == (409, "alias_in_use")
        else:
            # its own canonical id is nobody's alias: a new session gets it, and never the caller's own
            assert response.headers["X-Session-ID"] != self._caller.session_id
            await self._http.delete(response.headers["Location"], headers=self._caller.headers)

    async def _be_refused_another_session(self, socket: ClientConnection) -> None:
        other = self._other_inside()
        if other is None:
            return
        await _send(socket, type="session.bind", token=other.token)
        assert (await _receive(socket))["code"] == "session_already_bound"
        async with self.socket() as second:
            await _send(second, type="session.bind", token=other.token)
            assert (await _receive(second))["code"] == "session_forbidden"
            await _send(second, type="session.bind", token=self._caller.token, session_id=other.session_id)
            assert (await _receive(second))["code"] == "session_mismatch"

    def _other_inside(self) -> Caller | None:
        others = [other for other in self._others if other.token and other is not self._caller]
        return self._caller.chance.choice(others) if others else None

    # -- inside ------------------------------------------------------------------------------------------

    async def _talk(self, socket: ClientConnection, sayings: range) -> None:
        for saying in sayings:
            await _send(socket, type="command.text", text=self._caller.says(saying))
            await self._read_until(socket, self._caller.says(saying))

    async def _read_until(self, socket: ClientConnection, text: str | None) -> None:
        """Take events in until the text, or the end, has come."""
        while True:
            event = await _receive(socket)
            self._caller.events.append(event)
            if event.get("text") == text and (text is not None or event["type"] == "session.closed"):
                return

    async def _leave(self, socket: ClientConnection) -> None:
        caller = self._caller
        if caller.chance.random() < 0.5:
            await _send(socket, type="command.end")
        else:
            assert caller.resource is not None
            gone = await self._http.delete(caller.resource, headers=caller.headers)
            assert gone.status_code == 200
        await self._read_until(socket, None)
        registry = self._crowd.registry
        assert registry.session(caller.session_id) is None
        assert registry.alias_of(caller.session_id) is None
        assert registry.frontend_id_for(caller.session_id) == caller.session_id
        assert registry.media_id_for(caller.principal, caller.alias) is None
        response = await self._post({"X-Session-Token": caller.token})
        assert (response.status_code, response.json()["code"]) == (401, "token_invalid")

    def check_names(self) -> None:
        caller, registry = self._caller, self._crowd.registry
        assert registry.frontend_id_for(caller.session_id) == caller.alias
        named = None if caller.alias == caller.session_id else caller.session_id
        assert registry.media_id_for(caller.principal, caller.alias) == named

    def check_story(self) -> None:
        """Every event came once, in order, under the right names, and nothing of anybody else."""
        caller = self._caller
        assert [event["seq"] for event in caller.events] == list(range(1, len(caller.events) + 1))
        assert {event["session_id"] for event in caller.events} == {caller.session_id}
        assert {event["frontend_session_id"] for event in caller.events} <= {caller.session_id, caller.alias}
        assert caller.events[-1]["frontend_session_id"] == caller.alias
        said = [caller.says(saying) for saying in range(SAYINGS)]
        assert [event["text"] for event in caller.events if "text" in event] == said
        assert self._crowd.owners.heard[caller.session_id] == said

    async def _post(self, headers: dict[str, str]) -> httpx.Response:
        return await self._http.post(self._caller.headers | headers)

    async def _bind(self, socket: ClientConnection, **fields: object) -> dict[str, Any]:
        await _send(socket, type="session.bind", **fields)
        bound = await _receive(socket)
        assert bound["type"] == "session.bound", bound
        if self._caller.session_id:
            names = bound["session_id"], bound["frontend_session_id"]
            assert names == (self._caller.session_id, self._caller.alias)
        return bound

    @asynccontextmanager
    async def socket(self) -> AsyncIterator[ClientConnection]:
        url = self._crowd.url.replace("http", "ws", 1) + "/ws"
        async with connect(
            url,
            additional_headers=self._caller.headers,
            proxy=None,
            compression=None,
            open_timeout=60,
            ping_interval=None,
        ) as socket:
            yield socket


async def _send(socket: ClientConnection, **message: object) -> None:
    await socket.send(json.dumps(message))


async def _receive(socket: ClientConnection) -> dict[str, Any]:
    with anyio.fail_after(60):
        message: dict[str, Any] = json.loads(await socket.recv())
    return message


def callers_in_pairs(seed: int) -> list[Caller]:
    """Two by two they propose the same id; every fifth proposes none."""
    chance = random.Random(seed)
    mint = SessionIdMint()
    callers = []
    for number in range(CALLERS):
        if number % 2 == 0:
            shared = mint.frontend_session_id()
        proposes = None if number % 5 == 4 else shared
        callers.append(Caller(number, f"principal-{number}", proposes, random.Random(chance.random())))
    chance.shuffle(callers)
    return callers


@pytest.mark.timeout(180)
@pytest.mark.parametrize("seed", [20_261_122])
async def test_a_thousand_sessions_with_ids_in_any_order_never_cross(seed: int) -> None:
    allow_sockets(4 * CALLERS)
    callers = callers_in_pairs(seed)
    inside, entrance = Gathering(CALLERS), anyio.Semaphore(ARRIVING_AT_ONCE)
    async with (
        open_crowd(max_sockets=2 * CALLERS) as crowd,
        httpx.AsyncClient(base_url=crowd.url, trust_env=False, timeout=60) as client,
    ):
        http = Http(client)
        visits = [Visit(crowd, http, caller, callers) for caller in callers]

        async def take_part(visit: Visit) -> None:
            async with entrance:
                await visit.come_in()
            await inside.wait()
            visit.check_names()
            await visit.stay()

        async with anyio.create_task_group() as everybody:
            for visit in visits:
                everybody.start_soon(take_part, visit)
        assert len({caller.session_id for caller in callers}) == CALLERS
        assert len(crowd.registry) == 0
