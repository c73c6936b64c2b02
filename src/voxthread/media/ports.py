"""UDP sockets for media: at which ports of this machine."""

import errno
import secrets
import socket
from collections.abc import Iterator, Sequence

from voxthread.core.failures import MediaError
from voxthread.observability.logs import get_logger

log = get_logger(__name__)


def bind_sockets(addresses: Sequence[str], ports: range | None) -> list[socket.socket]:
    """One bound UDP socket for each address that has one, at any free port or at one of `ports`.

    Raises `MediaError` (retryable) when none can be bound: `media.no_port` if others have all `ports`,
    else `media.no_socket`.
    """
    bound: list[socket.socket] = []
    errors: list[OSError] = []
    for address in addresses:
        try:
            bound.append(_bind(address, ports))
        except OSError as error:
            errors.append(error)
    if bound:
        return bound
    are_taken = ports is not None and any(error.errno == errno.EADDRINUSE for error in errors)
    code = "media.no_port" if are_taken else "media.no_socket"
    log.error(code, addresses=[*addresses], detail=str(errors[-1]) if errors else "no address")
    raise MediaError(code, "The server has no UDP port for media now; try again.", retryable=True)


def _bind(address: str, ports: range | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_DGRAM)
    try:
        for port in _in_random_order(ports):
            try:
                bound.bind((address, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return bound
        raise OSError(errno.EADDRINUSE, "all UDP ports are taken")
    except OSError:
        bound.close()
        raise


def _in_random_order(ports: range | None) -> Iterator[int]:
    """All of them from a random one on: processes that share a range seldom try a port that is taken."""
    if ports is None:
        yield 0
        return
    start = secrets.randbelow(len(ports))
    for index in range(len(ports)):
        yield ports[(start + index) % len(ports)]
