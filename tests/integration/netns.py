"""Networks of this machine's own: namespaces with a public segment, NATs and a TURN server between them.

public: 203.0.113.0/24, 2001:db8:77::/64       private: 10.77.0.0/24 (callers), 10.88.0.0/24 (a server)
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

_TOOLS = ("ip", "nft", "turnserver")
_numbers = itertools.count()


class NetworkUnavailableError(Exception):
    """This machine does not let us have networks of our own."""


class Namespace:
    """One host; `run` runs a command on it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def command(self, *arguments: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        return _run(*self.command(*arguments), stdin=stdin)

    def python(self, script: str, *arguments: str) -> list[str]:
        """The command line that runs a script beside this file on this host."""
        return self.command(sys.executable, str(Path(__file__).with_name(script)), *arguments)

    def firewall(self, rules: str) -> None:
        self.run("nft", "-f", "-", stdin=rules)


class Network:
    """Hosts and the wires between them. `open_network` takes it down."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._prefix = f"vx{os.getpid()}_{next(_numbers)}"
        self._wires = itertools.count()
        self._switch = self.host("switch")
        self._switch.run("ip", "link", "add", "br0", "type", "bridge")
        self._switch.run("ip", "link", "set", "br0", "up")

    def host(self, name: str) -> Namespace:
        full_name = f"{self._prefix}_{name}"
        _run("ip", "netns", "add", full_name)
        self._stack.callback(_run, "ip", "netns", "del", full_name)
        created = Namespace(full_name)
        created.run("ip", "link", "set", "lo", "up")
        return created

    def public(self, host: Namespace, number: int) -> None:
        """Give the host the public addresses that end in `number`."""
        port = self._wire(host, self._switch, "public")
        self._switch.run("ip", "link", "set", port, "master", "br0", "up")
        addresses = f"203.0.113.{number}/24", f"2001:db8:77::{number}/64"
        self._configure(host, "public", addresses)

    def private(self, host: Namespace, router: Namespace, subnet: str) -> None:
        """Put the host behind a router: it is `.2` of the subnet, the router `.1`."""
        port = self._wire(host, router, "private")
        self._configure(host, "private", [f"{subnet}.2/24"])
        self._configure(router, port, [f"{subnet}.1/24"])
        host.run("ip", "route", "add", "default", "via", f"{subnet}.1")
        router.run("sysctl", "-qw", "net.ipv4.ip_forward=1")

    def _wire(self, host: Namespace, other: Namespace, interface: str) -> str:
        port = f"port{next(self._wires)}"
        host.run("ip", "link", "add", interface, "type", "veth", "peer", "name", port, "netns", other.name)
        return port

    def _configure(self, host: Namespace, interface: str, addresses: Sequence[str]) -> None:
        for address in addresses:
            family = "-6" if ":" in address else "-4"
            host.run(
                "ip", family, "addr", "add", address, "dev", interface, *(["nodad"] if family == "-6" else [])
            )
        host.run("ip", "link", "set", interface, "up")


@contextmanager
def open_network() -> Iterator[Network]:
    """Raises `NetworkUnavailableError` if it cannot be had here."""
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise NetworkUnavailableError(f"needs root and {', '.join(missing or _TOOLS)}")
    with ExitStack() as stack:
        try:
            network = Network(stack)
        except subprocess.CalledProcessError as error:
            raise NetworkUnavailableError(f"no network namespaces here: {error.stderr.strip()}") from None
        yield network


def _run(*command: str, stdin: str | None = None) -> str:
    return subprocess.run(command, input=stdin, capture_output=True, check=True, text=True, timeout=20).stdout
