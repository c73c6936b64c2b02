"""Which sessions there are and were, and where on the log each lies: all that live, the newest that ended.

Pure. Sessions are listed newest first; whoever asks gets its own only. No operation walks all sessions.
"""

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from heapq import merge
from itertools import islice
from typing import Final, Literal

from voxthread.core.failures import SessionError
from voxthread.sessions import errors

MARK_EVENTS: Final = 64
"""Of every so many events the place on the log is kept, so that reading may begin near any of them."""

State = Literal["live", "ended"]
Key = tuple[int, str]
"""Order of a list: created at, session id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """Who asks: sees one principal's sessions, or one session, or, with neither, all."""

    principal: str | None = None
    session_id: str | None = None

    def sees(self, session: "IndexedSession") -> bool:
        return self.principal in (None, session.principal) and self.session_id in (None, session.session_id)


@dataclass(slots=True, kw_only=True)
class IndexedSession:
    """A session in a list. `principal` is None where the log does not say whose it is."""

    session_id: str
    partition: int
    created_at_ms: int
    principal: str | None
    frontend_session_id: str
    agent: str = ""
    via: str = ""
    ended_at_ms: int | None = None
    end_reason: str | None = None
    events: int = 0
    turns: int = 0
    warnings: int = 0
    last_at_ms: int = 0
    last_position: int = 0
    marks: list[tuple[int, int]] = field(default_factory=list)
    """(seq, position) of an event in each `MARK_EVENTS`, the first one included."""

    @property
    def key(self) -> Key:
        return self.created_at_ms, self.session_id

    @property
    def state(self) -> State:
        return "live" if self.ended_at_ms is None else "ended"

    def position_before(self, seq: int) -> int:
        """A place on the log that no event from `seq` on lies before."""
        index = bisect_right(self.marks, seq, key=lambda mark: mark[0]) - 1
        return self.marks[max(0, index)][1]


class SessionIndex:
    def __init__(self, kept_ended: int) -> None:
        self._kept_ended = kept_ended
        self._sessions: dict[str, IndexedSession] = {}
        self._ended: deque[str] = deque()
        self._lists: dict[tuple[str | None, State], list[Key]] = {}
        self._named: dict[tuple[str | None, str], list[str]] = {}
        """By (principal, frontend id), and by (None, frontend id) for those who see all."""

    def __len__(self) -> int:
        return len(self._sessions)

    def session(self, session_id: str) -> IndexedSession | None:
        return self._sessions.get(session_id)

    def add(self, session: IndexedSession) -> None:
        self._sessions[session.session_id] = session
        self._list(session)
        self._name(session)

    def rename(self, session: IndexedSession, frontend_session_id: str) -> None:
        self._unname(session)
        session.frontend_session_id = frontend_session_id
        self._name(session)

    def end(self, session: IndexedSession, at_ms: int, reason: str) -> None:
        """Keep it among the ended; the oldest of those goes when there are too many."""
        self._unlist(session)
        session.ended_at_ms, session.end_reason = at_ms, reason
        self._list(session)
        self._ended.append(session.session_id)
        if len(self._ended) > self._kept_ended:
            self._forget(self._sessions[self._ended.popleft()])

    def oldest_live(self) -> IndexedSession | None:
        live = self._lists.get((None, "live"))
        return self._sessions[live[0][1]] if live else None

    def find(self, any_id: str, viewer: Viewer) -> IndexedSession:
        """The session of that canonical id, else the one of that frontend id, among those the viewer sees.

        Raises `SessionError` `session_unknown`, the same for what is not there and what is another's, or
        `session_id_ambiguous` for a frontend id that has named several of them.
        """
        session = self._sessions.get(any_id)
        if session is not None and viewer.sees(session):
            return session
        named = self._named.get((viewer.principal, any_id), ())
        seen = [each for each in named if viewer.session_id in (None, each)]
        if len(seen) > 1:
            raise SessionError(
                errors.SESSION_ID_AMBIGUOUS, "several sessions had this frontend id: ask by session_id"
            )
        if not seen:
            raise SessionError(errors.SESSION_UNKNOWN, "there is no such session")
        return self._sessions[seen[0]]

    def page(
        self, viewer: Viewer, *, states: Iterable[State], before: Key | None, limit: int
    ) -> list[IndexedSession]:
        """At most `limit` sessions older than `before`, newest first."""
        if viewer.session_id is not None:
            only = self._sessions.get(viewer.session_id)
            is_on_page = only is not None and only.state in states and (before is None or only.key < before)
            return [only] if only is not None and is_on_page and viewer.sees(only) else []
        lists = (self._lists.get((viewer.principal, state), []) for state in states)
        newest_first = merge(*(_backwards(keys, before) for keys in lists), reverse=True)
        return [self._sessions[session_id] for _, session_id in islice(newest_first, limit)]

    def _forget(self, session: IndexedSession) -> None:
        self._unlist(session)
        self._unname(session)
        del self._sessions[session.session_id]

    def _list(self, session: IndexedSession) -> None:
        for owner in {None, session.principal}:
            insort(self._lists.setdefault((owner, session.state), []), session.key)

    def _unlist(self, session: IndexedSession) -> None:
        for owner in {None, session.principal}:
            keys = self._lists[owner, session.state]
            del keys[bisect_left(keys, session.key)]
            if not keys:
                del self._lists[owner, session.state]

    def _name(self, session: IndexedSession) -> None:
        if session.frontend_session_id != session.session_id:
            for owner in {None, session.principal}:
                self._named.setdefault((owner, session.frontend_session_id), []).append(session.session_id)

    def _unname(self, session: IndexedSession) -> None:
        if session.frontend_session_id != session.session_id:
            for owner in {None, session.principal}:
                named = self._named[owner, session.frontend_session_id]
                named.remove(session.session_id)
                if not named:
                    del self._named[owner, session.frontend_session_id]


def _backwards(keys: list[Key], before: Key | None) -> Iterator[Key]:
    end = len(keys) if before is None else bisect_left(keys, before)
    return (keys[index] for index in range(end - 1, -1, -1))
