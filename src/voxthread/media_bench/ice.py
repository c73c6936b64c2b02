"""A caller's half of ICE, as little as a server behind no NAT needs (RFC 8445): one check that nominates its
pair, and answers to the server's own."""

import secrets
from dataclasses import dataclass, field
from typing import Final

from aioice.stun import Class, Message, Method, parse_message

_PRIORITY: Final = 0x6EFFFFFF
"""Of a host candidate learnt from a check."""


@dataclass(slots=True)
class IceCredentials:
    ufrag: str = field(default_factory=lambda: secrets.token_hex(4))
    password: str = field(default_factory=lambda: secrets.token_hex(12))


class IceCaller:
    """Controlling. `is_checked` when the server has answered."""

    def __init__(self, own: IceCredentials, server: IceCredentials) -> None:
        self.is_checked = False
        self._own = own
        self._server = server
        self._tie_breaker = secrets.randbits(64)
        self._asked: set[bytes] = set()

    def check(self) -> bytes:
        """The request that proves the path and nominates it."""
        request = Message(Method.BINDING, Class.REQUEST)
        request.attributes.update(
            {
                "USERNAME": f"{self._server.ufrag}:{self._own.ufrag}",
                "PRIORITY": _PRIORITY,
                "ICE-CONTROLLING": self._tie_breaker,
                "USE-CANDIDATE": None,
            }
        )
        request.add_message_integrity(self._server.password.encode())
        self._asked.add(request.transaction_id)
        return bytes(request)

    def receive(self, datagram: bytes, server: tuple[str, int]) -> bytes | None:
        """What to answer, if anything."""
        try:
            message = parse_message(datagram)
        except ValueError:
            return None
        if message.message_class == Class.RESPONSE:
            self.is_checked = self.is_checked or message.transaction_id in self._asked
        if message.message_class != Class.REQUEST:
            return None
        response = Message(Method.BINDING, Class.RESPONSE, transaction_id=message.transaction_id)
        response.attributes["XOR-MAPPED-ADDRESS"] = server
        response.add_message_integrity(self._own.password.encode())
        return bytes(response)
