"""What a session has not dealt with yet: bounded in audio, never in facts."""

import pytest

from voxthread.media.outbox import MAX_AUDIO_MS as KEPT_BY_MEDIA_MS
from voxthread.orchestrator.inbox import Arrived, Inbox
from voxthread.wire.audio import AudioRecord
from voxthread.wire.facts import PeerLost

pytestmark = [pytest.mark.unit, pytest.mark.anyio]

PACKETS = (b"\x08",) * 3
RECORD_MS = 60


def audio(position: int) -> Arrived:
    record = AudioRecord(epoch=0, seq=position + 1, timestamp=0, packets=PACKETS, packet_ms=20, turn_id=0)
    return Arrived(position, record)


async def taken(inbox: Inbox, count: int) -> list[int]:
    items = [await inbox.get() for _ in range(count)]
    return [item.position for item in items if isinstance(item, Arrived)]


async def test_all_that_media_kept_while_the_log_was_away_may_come_at_once() -> None:
    inbox, records = Inbox(), KEPT_BY_MEDIA_MS // RECORD_MS
    for position in range(records):
        inbox.put(audio(position))
    assert await taken(inbox, records) == list(range(records))


async def test_beyond_the_bound_the_oldest_audio_goes_and_facts_stay() -> None:
    inbox = Inbox(max_audio_ms=2 * RECORD_MS)
    inbox.put(Arrived(0, PeerLost(reason="closed", turn_id=0, heard_ms=0)))
    for position in range(1, 5):
        inbox.put(audio(position))
    assert await taken(inbox, 3) == [0, 3, 4]
