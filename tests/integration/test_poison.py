"""Work that kills whoever owns it is put aside after two deaths, its session after three; others go on."""

import anyio
import pytest

from faked_call import BLUE_HZ, RED_HZ, until
from integration.fake_media import FakeMedia, tone_packets
from poisoned_call import (
    APOLOGY,
    GUILTY_ID,
    INNOCENT_ID,
    POISON_HZ,
    POISON_PACKET,
    dead_letters,
    heard_by,
    kept,
    scene,
    unbroken_story,
)
from voxthread.core import events
from voxthread.core.attempts import POISONED
from voxthread.wire import facts
from voxthread.wire.audio import decode_audio
from voxthread.wire.claims import SessionRelease, decode_claim
from voxthread.wire.log import Stream
from voxthread.wire.snapshots import is_attempt

pytestmark = [pytest.mark.integration, pytest.mark.anyio]


async def hang_up(media: FakeMedia) -> None:
    await media.send(facts.EndCommand(reason="hung_up"))
    await media.closed.wait()


async def test_utterance_that_kills_is_skipped_after_two_deaths_and_the_call_goes_on() -> None:
    async with scene() as at:
        at.guilty.speak(tone_packets(POISON_HZ, 400))
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, 2, session_id=GUILTY_ID)
        await hang_up(at.guilty)
        assert at.owners.deaths == 2
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY, "You asked What is red. That I know."]
        told = [envelope.event for envelope in await unbroken_story(at.bus, GUILTY_ID)]
        assert [e.code for e in told if isinstance(e, events.ErrorOccurred)] == [POISONED.code]
        (letter,) = await dead_letters(at.bus)
        assert (letter.error, letter.stream, letter.record.key) == ("poison.utterance", Stream.IN, GUILTY_ID)
        assert decode_audio(letter.record.value).duration_ms >= 400


async def test_caller_in_the_middle_of_a_word_when_another_kills_the_owners_is_understood() -> None:
    """Neither of the two gets on with anything between the deaths: each is tried alone."""
    async with scene() as at:
        at.guilty.speak(tone_packets(POISON_HZ, 400))
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        assert at.owners.deaths <= 3
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY]
        assert await heard_by(at.bus, INNOCENT_ID) == ["You asked What is blue. That I know."]
        assert [letter.record.key for letter in await dead_letters(at.bus)] == [GUILTY_ID]


async def test_agent_that_always_kills_is_quarantined_at_the_third_death_and_others_go_on() -> None:
    async with scene(agent="killer") as at:
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        at.guilty.speak(tone_packets(BLUE_HZ, 600))
        await at.guilty.closed.wait()
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        at.innocent.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, 2, session_id=INNOCENT_ID)
        assert at.owners.deaths == 3
        assert (await unbroken_story(at.bus, GUILTY_ID))[-1].event == events.SessionClosed(reason="quarantined")
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY]
        assert await heard_by(at.bus, INNOCENT_ID) == [
            "You asked What is blue. That I know.",
            "You asked What is red. That I know.",
        ]
        releases = [decode_claim(stored.record.value) for stored in await kept(at.bus, Stream.CLAIMS)]
        assert [r.session_id for r in releases if isinstance(r, SessionRelease)] == [GUILTY_ID]
        assert [letter.error for letter in await dead_letters(at.bus)] == ["poison.utterance", "poison.session"]
        states = {stored.record.key: stored.record.value for stored in await kept(at.bus, Stream.STATE)}
        assert [value for key, value in states.items() if key.endswith(GUILTY_ID)] == [b"", b""]


async def test_partition_handed_over_again_and_again_at_the_same_work_nothing_is_held_against_it() -> None:
    async with scene(agent="killer") as at:
        at.owners.hand_over = True
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await at.owners.have_died(5)
        assert await dead_letters(at.bus) == []
        assert not any(is_attempt(stored.record.key) for stored in await kept(at.bus, Stream.STATE))


async def test_idle_session_whose_owners_die_of_something_else_is_never_blamed() -> None:
    async with scene() as at:
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        for deaths in range(1, 5):
            at.owners.kill()
            await until(at.bus, events.OrchestratorTakeover, deaths, session_id=INNOCENT_ID)
        at.innocent.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, 2, session_id=INNOCENT_ID)
        assert await dead_letters(at.bus) == []


async def test_packet_that_kills_while_nobody_speaks_is_skipped_after_three_deaths_and_both_calls_go_on() -> (
    None
):
    async with scene() as at:
        await until(at.bus, events.SessionConnected, session_id=GUILTY_ID)
        at.guilty.speak([POISON_PACKET])
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        at.guilty.speak(tone_packets(RED_HZ, 600))
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, 2, session_id=GUILTY_ID)
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        assert at.owners.deaths == 3
        assert await heard_by(at.bus, GUILTY_ID) == [APOLOGY, "You asked What is red. That I know."]
        assert await heard_by(at.bus, INNOCENT_ID) == ["You asked What is blue. That I know."]
        (letter,) = await dead_letters(at.bus)
        assert (letter.error, letter.stream, letter.record.key) == ("poison.audio", Stream.IN, GUILTY_ID)
        assert POISON_PACKET in decode_audio(letter.record.value).packets


async def test_packets_that_kill_again_and_again_quarantine_their_session_and_the_other_goes_on() -> None:
    async with scene() as at:
        await until(at.bus, events.SessionConnected, session_id=INNOCENT_ID)
        at.guilty.speak([POISON_PACKET] * 1_000)
        await at.guilty.closed.wait()
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        assert at.owners.deaths <= 5
        assert {letter.record.key for letter in await dead_letters(at.bus)} == {GUILTY_ID}
        assert (await unbroken_story(at.bus, GUILTY_ID))[-1].event == events.SessionClosed(reason="quarantined")
        assert await heard_by(at.bus, INNOCENT_ID) == ["You asked What is blue. That I know."]


@pytest.mark.parametrize("lives_ms", [0, 100, 300, 700, 1_300])
async def test_listening_sessions_whose_owners_are_killed_again_and_again_lose_nothing(lives_ms: int) -> None:
    """All within the time of one snapshot, so that no owner is seen to have got on with anything."""
    async with scene() as at:
        await until(at.bus, events.SessionConnected, session_id=INNOCENT_ID)
        for deaths in range(1, 7):
            await anyio.sleep(lives_ms / 1000)
            at.owners.kill()
            await until(at.bus, events.OrchestratorTakeover, deaths, session_id=INNOCENT_ID)
        at.innocent.speak(tone_packets(BLUE_HZ, 600))
        at.guilty.speak(tone_packets(RED_HZ, 600))
        await until(at.bus, events.AgentSpeechStopped, session_id=INNOCENT_ID)
        await until(at.bus, events.AgentSpeechStopped, session_id=GUILTY_ID)
        assert await dead_letters(at.bus) == []
        assert await heard_by(at.bus, INNOCENT_ID) == ["You asked What is blue. That I know."]
