"""Forgetting what is too old or too much, in steps of about a millisecond between two appends.

Every process that writes sweeps too; who comes second finds nothing to do.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final

from voxthread.bus.policies import COMPACTION_LAG_MS, TOMBSTONE_MS, Policy
from voxthread.bus.sqlite_file import Place, table
from voxthread.wire.log import Stream

STEP_ROWS: Final = 100
STEP_INTERVAL_S: Final = 0.25
BACKLOG_INTERVAL_S: Final = 0.02
"""Between steps in a place that has more to drop: 5,000 records a second, ten times what calls write."""

_OLDEST: Final = "SELECT position, at_ms, written_bytes FROM {table} ORDER BY position LIMIT 1"
_NEWEST: Final = "SELECT position, written_bytes FROM {table} ORDER BY position DESC LIMIT 1"
_DROP_OLDEST: Final = """
DELETE FROM {table} WHERE position < coalesce(
  (SELECT min(position) FROM {table} WHERE position < :end AND at_ms >= :since_ms AND written_bytes > :beyond),
  :end)"""
_WINDOW_END: Final = f"""
SELECT max(position), count(*) FROM
  (SELECT position FROM {{table}} WHERE position >= ? ORDER BY position LIMIT {STEP_ROWS})"""
_COMPACT: Final = """
DELETE FROM {table} AS old
WHERE position BETWEEN :start AND :end AND position < (SELECT max(position) FROM {table}) AND (
  at_ms < :since_ms
  OR (at_ms < :ended_ms AND value = x'')
  OR (at_ms < :settled_ms
      AND EXISTS (SELECT 1 FROM {table} AS new WHERE new.key = old.key AND new.position > old.position)))"""


class Sweep:
    """Visits the places in turn. Raises `sqlite3.Error`, which leaves the file as it was before the step."""

    def __init__(self, places: Sequence[Place], policies: Mapping[Stream, Policy]) -> None:
        self._places = places
        self._policies = policies
        self._visiting = 0
        self._window_starts = dict.fromkeys(places, 0)

    def step(self, connection: sqlite3.Connection, now_ms: int) -> float:
        """Do one step and return the seconds until the next."""
        place = self._places[self._visiting]
        policy = self._policies[place[0]]
        if policy.compacted:
            has_more = self._compact(connection, place, policy, now_ms)
        else:
            has_more = _drop_oldest(connection, table(place), policy, now_ms)
        if has_more:
            return BACKLOG_INTERVAL_S
        self._visiting = (self._visiting + 1) % len(self._places)
        return STEP_INTERVAL_S

    def _compact(self, connection: sqlite3.Connection, place: Place, policy: Policy, now_ms: int) -> bool:
        start = self._window_starts[place]
        end, rows = connection.execute(_WINDOW_END.format(table=table(place)), (start,)).fetchone()
        if rows:
            connection.execute(
                _COMPACT.format(table=table(place)),
                {
                    "start": start,
                    "end": end,
                    "since_ms": now_ms - policy.age_ms,
                    "ended_ms": now_ms - TOMBSTONE_MS,
                    "settled_ms": now_ms - COMPACTION_LAG_MS,
                },
            )
        has_more: bool = rows == STEP_ROWS
        self._window_starts[place] = end + 1 if has_more else 0
        return has_more


def _drop_oldest(connection: sqlite3.Connection, name: str, policy: Policy, now_ms: int) -> bool:
    oldest = connection.execute(_OLDEST.format(table=name)).fetchone()
    if oldest is None:
        return False
    position, at_ms, up_to_oldest_bytes = oldest
    newest, written_bytes = connection.execute(_NEWEST.format(table=name)).fetchone()
    since_ms = now_ms - policy.age_ms
    beyond = written_bytes - policy.partition_bytes
    if at_ms >= since_ms and up_to_oldest_bytes > beyond:
        return False
    end = min(position + STEP_ROWS, newest)
    found = {"end": end, "since_ms": since_ms, "beyond": beyond}
    return connection.execute(_DROP_OLDEST.format(table=name), found).rowcount == STEP_ROWS
