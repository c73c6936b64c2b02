"""The sessions hosted at this process: whose peer is there, and how long the others are waited for."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum
from typing import Final

from voxthread.observability.metrics import SESSIONS

RESUMABLE_MS: Final = 60_000
"""How long a session waits for a peer, its first or its next."""


class Peer(Enum):
    ABSENT = "absent"
    EXPECTED = "expected"
    """Its offer is being answered."""
    CONNECTED = "connected"


class HostedSessions:
    """News of a session that is not hosted here changes nothing."""

    def __init__(self, now_ms: Callable[[], int]) -> None:
        self._now_ms = now_ms
        self._peers: dict[str, Peer] = {}
        self._deadlines_ms: OrderedDict[str, int] = OrderedDict()

    def __contains__(self, session_id: str) -> bool:
        return session_id in self._peers

    def peer(self, session_id: str) -> Peer | None:
        """None if the session is not hosted here."""
        return self._peers.get(session_id)

    def add(self, session_id: str, peer: Peer) -> None:
        """The session is hosted here from now on, and waits for its peer."""
        SESSIONS.inc()
        self._peers[session_id] = peer
        self.wait(session_id, peer)

    def discard(self, session_id: str) -> Peer | None:
        """The session is not hosted here any more; its peer, None if it was not before."""
        self._deadlines_ms.pop(session_id, None)
        peer = self._peers.pop(session_id, None)
        if peer is not None:
            SESSIONS.dec()
        return peer

    def clear(self) -> None:
        for session_id in [*self._peers]:
            self.discard(session_id)

    def wait(self, session_id: str, peer: Peer) -> None:
        """Wait for the session's peer anew, absent or expected."""
        if session_id in self._peers:
            self._peers[session_id] = peer
            self._deadlines_ms[session_id] = self._now_ms() + RESUMABLE_MS
            self._deadlines_ms.move_to_end(session_id)

    def connect(self, session_id: str) -> None:
        if session_id in self._peers:
            self._peers[session_id] = Peer.CONNECTED
            self._deadlines_ms.pop(session_id, None)

    def overdue(self) -> str | None:
        """The session that has waited longest, if too long."""
        for session_id, deadline_ms in self._deadlines_ms.items():
            return session_id if deadline_ms <= self._now_ms() else None
        return None
