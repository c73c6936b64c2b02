"""A caller's connection, as the door that answered it holds it."""

from typing import Protocol

import anyio

from voxthread.media.fragment import parse_fragment
from voxthread.media.peer import Peer


class _Leg(Protocol):
    @property
    def ended(self) -> anyio.Event: ...

    def end(self, reason: str) -> None: ...


class LegPeer:
    """`scope` is what ends when the connection does."""

    def __init__(self, leg: _Leg, peer: Peer) -> None:
        self.answer = peer.answer
        self.scope = anyio.CancelScope()
        self.lost_reason: str | None = None
        self._leg = leg
        self._peer = peer

    @property
    def is_connected(self) -> bool:
        """Whether it has come, and be it gone again."""
        return self._peer.is_connected

    @property
    def is_closed(self) -> bool:
        return self.lost_reason is not None

    def is_restart(self, fragment: str) -> bool:
        """Whether the fragment asks for an ICE restart. Raises `OfferError` if it is malformed."""
        return self._peer.is_restart(parse_fragment(fragment))

    async def trickle(self, fragment: str) -> None:
        """Raises `OfferError` if the fragment is malformed."""
        await self._peer.trickle(parse_fragment(fragment))

    def lose(self, reason: str) -> None:
        """Disconnect; the session goes on without this peer."""
        if self.lost_reason is None:
            self.lost_reason = reason
        self.scope.cancel()

    async def close(self, reason: str) -> None:
        """The caller hung up: end the session. Returns when its sockets are free and all is told."""
        self._leg.end(reason)
        await self._leg.ended.wait()
