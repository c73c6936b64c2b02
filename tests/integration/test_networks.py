"""Calls through NATs, firewalls and a TURN server, in networks of this machine's own."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from conftest import SkipLoudly
from integration.netns import Namespace, Network, NetworkUnavailableError, open_network
from integration.whip_call import whip_server
from integration.whip_offers import OFFER, problem_of
from voxthread.core.failures import MediaError
from voxthread.media.ports import bind_sockets
from voxthread.observability.clock import now_ms
from voxthread.sessions.tokens import Scope, mint_token

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

KEY = "0123456789abcdef0123456789abcdef"
TURN_SECRET = "what coturn and the server share"
SERVER, TURN, CALLERS_NAT, SERVERS_NAT = "203.0.113.10", "203.0.113.20", "203.0.113.30", "203.0.113.40"
ICE_SERVERS = [f"turn:{TURN}:3478?transport=udp"]
ICE_SERVERS_TCP = [f"turn:{TURN}:3478?transport=tcp"]

MASQUERADE = """
table ip nat {
  chain post { type nat hook postrouting priority 100; oifname "public" masquerade %s; }
}
"""
SYMMETRIC = "fully-random"
"""Another port for each place that is talked to."""

ONLY_TURN = """
table ip filter {
  chain forward {
    type filter hook forward priority 0; policy accept;
    meta l4proto udp %s drop;
  }
}
"""
ONE_TO_ONE = """
table ip nat {
  chain pre { type nat hook prerouting priority -100; iifname "public" dnat to 10.88.0.2; }
  chain post { type nat hook postrouting priority 100; oifname "public" snat to 203.0.113.40; }
}
"""


@pytest.fixture
def network(skip_loudly: SkipLoudly) -> Iterator[Network]:
    try:
        with open_network() as opened:
            yield opened
    except NetworkUnavailableError as error:
        skip_loudly("network namespaces", str(error))


@pytest.fixture
def caller(network: Network) -> Namespace:
    """A caller behind a NAT, which does nothing yet."""
    router, host = network.host("nat"), network.host("caller")
    network.public(router, 30)
    network.private(host, router, "10.77.0")
    return host


@pytest.fixture
def nat(caller: Namespace) -> Namespace:
    return Namespace(caller.name.replace("_caller", "_nat"))


@pytest.fixture
def server(network: Network) -> Namespace:
    host = network.host("server")
    network.public(host, 10)
    return host


@contextmanager
def serving(host: Namespace, address: str = SERVER, **media: Any) -> Iterator[str]:
    sections = {"http": {"host": address, "port": 8080}, "auth": {"key": KEY}, "media": media}
    command = host.python("netns_server.py", json.dumps(sections))
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=_environment(),
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        said = [running.stdout.readline()]
        while said[-1] and not said[-1].startswith("http"):
            said.append(running.stdout.readline())
        assert said[-1], "".join(said)
        try:
            yield said[-1].strip()
        finally:
            running.stdin.close()
            running.stdout.read()


@contextmanager
def relaying(network: Network, directory: Path) -> Iterator[None]:
    """Debian's coturn, told the secret and nothing else of the server."""
    host = network.host("turn")
    network.public(host, 20)
    command = host.command(
        "turnserver",
        *("-n", "--no-tls", "--no-dtls", "--no-cli", "--no-multicast-peers", "--log-file=stdout"),
        *(f"--listening-ip={TURN}", f"--relay-ip={TURN}", "--realm=test"),
        *("--use-auth-secret", f"--static-auth-secret={TURN_SECRET}"),
        *(f"--userdb={directory / 'turn.db'}", f"--pidfile={directory / 'turn.pid'}"),
    )
    with (
        (directory / "turn.log").open("w") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as running,
    ):
        try:
            yield
        finally:
            running.terminate()


def call(host: Namespace, url: str) -> dict[str, Any]:
    """Call from this host, hear the agent's greeting and hang up."""
    bearer = mint_token(
        KEY,
        algorithm="HS256",
        audience="voxthread",
        principal="caller",
        scopes=[Scope.PUBLISH],
        expires_at_s=now_ms() // 1000 + 60,
    )
    done = subprocess.run(
        host.python("netns_caller.py", url, bearer),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=_environment(),
    )
    assert done.returncode == 0, done.stderr[-4_000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert result["heard"] >= 10
    assert result["deleted"] == 200
    return result


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


@pytest.mark.parametrize("how", ["", SYMMETRIC], ids=["cone", "symmetric"])
def test_a_caller_behind_a_nat_reaches_a_public_server_directly(
    caller: Namespace, nat: Namespace, server: Namespace, how: str
) -> None:
    nat.firewall(MASQUERADE % how)
    with serving(server) as url:
        assert call(caller, url)["to"] == SERVER


@pytest.mark.parametrize(
    ("servers", "allowed"),
    [(ICE_SERVERS, f"ip daddr != {TURN} ip saddr != {TURN}"), (ICE_SERVERS_TCP, "")],
    ids=["udp", "tcp"],
)
def test_a_caller_whose_network_lets_udp_only_to_turn_calls_through_it(
    network: Network,
    caller: Namespace,
    nat: Namespace,
    server: Namespace,
    tmp_path: Path,
    servers: list[str],
    allowed: str,
) -> None:
    nat.firewall(MASQUERADE % SYMMETRIC)
    nat.firewall(ONLY_TURN % allowed)
    with (
        relaying(network, tmp_path),
        serving(server, ice_servers=servers, turn_secret=TURN_SECRET) as url,
    ):
        assert call(caller, url)["through"] == "relay"


def test_a_server_behind_a_1_1_nat_is_reached_by_its_public_address(
    network: Network, caller: Namespace, nat: Namespace
) -> None:
    router, host = network.host("edge"), network.host("inside")
    network.public(router, 40)
    network.private(host, router, "10.88.0")
    router.firewall(ONE_TO_ONE)
    nat.firewall(MASQUERADE % "")
    with serving(host, "10.88.0.2", nat_1_1=[SERVERS_NAT], udp_ports="40000-40003"):
        assert call(caller, f"http://{SERVERS_NAT}:8080")["to"] == SERVERS_NAT


def test_a_caller_reaches_a_server_over_ipv6(network: Network, server: Namespace) -> None:
    host = network.host("six")
    network.public(host, 50)
    with serving(server, "2001:db8:77::10") as url:
        assert call(host, url)["to"] == "2001:db8:77::10"


def test_sockets_are_bound_in_the_range_until_it_is_full() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        with pytest.raises(MediaError) as full:
            bind_sockets(["127.0.0.1"], range(port, port + 1))
    assert (full.value.code, full.value.retryable) == ("media.no_port", True)
    (bound,) = bind_sockets(["203.0.113.1", "127.0.0.1"], range(port, port + 1))
    assert bound.getsockname() == ("127.0.0.1", port)
    bound.close()
    with pytest.raises(MediaError) as absent:
        bind_sockets(["203.0.113.1"], None)
    assert absent.value.code == "media.no_socket"


@pytest.mark.anyio
async def test_callers_beyond_the_port_range_get_503_and_a_port_that_is_free_again_is_used() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with whip_server(udp_ports=range(port, port + 1)) as server:
        first = await server.post(OFFER)
        assert f" 127.0.0.1 {port} typ host" in first.text
        assert problem_of(await server.post(OFFER)) == (503, "media.no_port")
        await server.http.delete(first.headers["Location"])
        assert (await server.post(OFFER)).status_code == 201


@pytest.mark.anyio
async def test_a_call_over_ipv6_loopback() -> None:
    async with whip_server(addresses=("::1",)) as server:
        answer = (await server.post(OFFER)).text
        assert re.search(r"a=candidate:1 1 udp \d+ ::1 \d+ typ host", answer)
        assert "c=IN IP6 ::1" in answer
