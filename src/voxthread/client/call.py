"""A connected call as an object: speak, hear the reply, measure. `dial.open_call` makes it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
from anyio import to_thread

from voxthread.client.ears import Ears
from voxthread.client.failures import CallError
from voxthread.client.feed import EventFeed
from voxthread.client.keeping import Keeper
from voxthread.client.line import Line
from voxthread.client.mouth import Mouth, Spoken
from voxthread.client.recording import track_of, write_recording
from voxthread.client.story import Story, Turn
from voxthread.client.utterance import Utterance, encode_utterance
from voxthread.core.audio import PcmFrame
from voxthread.observability.clock import now_ms

QUIET_MS = 400
"""Silence after which a reply whose turn is over is believed to be heard to its end."""

_CUT_IN_GRACE_MS = 2_500
"""How long a second reply may take when the agent answered before the caller had finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long each step of a call may take, in milliseconds."""

    connect_ms: int = 10_000
    greeting_ms: int = 5_000
    """For a greeting to begin; an agent that has none costs this much once."""
    reply_ms: int = 30_000
    """From the end of an utterance to the agent's voice."""
    speech_ms: int = 120_000
    """From the beginning of a reply to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The agent's answer to one utterance.

    `turns` are all turns it began since, the newest last; more than one if it answered in mid-utterance or
    had to apologise. `v2v_ms` is from the last sound of the utterance to the first sound of the agent after
    it; None where either was silent. `cut_in` says the agent was heard inside the utterance, which makes
    `v2v_ms` meaningless.
    """

    turns: tuple[Turn, ...]
    v2v_ms: float | None
    cut_in: bool

    @property
    def turn(self) -> Turn:
        return self.turns[-1]


class Call:
    """A connected call, made by `open_call`. After it ended, `story`, `mouth` and `ears` can still be read."""

    def __init__(
        self, line: Line, keeper: Keeper, feed: EventFeed, mouth: Mouth, ears: Ears, patience: Patience
    ) -> None:
        assert line.answer is not None, "the line was not dialled"
        self.session_id = line.answer.session_id
        self.frontend_session_id = line.answer.frontend_session_id
        self.reconnects = keeper.reconnects
        """Each loss of the line so far."""
        self._line = line
        self.mouth = mouth
        self.ears = ears
        self._feed = feed
        self._patience = patience

    @property
    def session_token(self) -> str:
        """Binds another socket to this session, until the next reconnect. A secret."""
        return self._line.session_token

    @property
    def story(self) -> Story:
        return self._feed.story

    async def until(self, is_so: Callable[[Story], bool]) -> None:
        """Wait until the events tell so. Raises `CallError` when the call is lost."""
        await self._feed.until(is_so)

    def start_saying(self, utterance: Utterance) -> Spoken:
        """Speak without waiting, also over the agent; the first packet leaves within 20 ms."""
        return self.mouth.say(utterance)

    async def say(self, speech: PcmFrame | Utterance) -> Spoken:
        """Speak in real time and return when the last packet was sent."""
        if isinstance(speech, PcmFrame):
            speech = await to_thread.run_sync(encode_utterance, speech)
        spoken = self.start_saying(speech)
        await spoken.ended.wait()
        return spoken

    async def greeting(self) -> Turn | None:
        """Hear the greeting to its end; None if the agent did not begin one. Raises `CallError`."""
        with anyio.move_on_after(self._patience.greeting_ms / 1000):
            await self.until(lambda story: bool(story.turns))
        if not self.story.turns:
            return None
        await self._hear_out(0, "the greeting")
        return self.story.turns_after(0)[-1]

    async def reply(self, spoken: Spoken) -> Reply:
        """Hear the answer to an utterance to its end. Raises `CallError`."""
        await spoken.ended.wait()
        before = self.story.last_turn_before(spoken.sent_us[0])
        while True:
            await self._hear_out(before, "the agent's reply")
            newest = self.story.last_turn_id
            answers_early = self.story.turns[newest].began_us < (spoken.last_sound_us or 0)
            with anyio.move_on_after(_CUT_IN_GRACE_MS / 1000 if answers_early else 0):
                await self.until(_has_turn_after(newest))
            if self.story.last_turn_id == newest:
                return self._measured(spoken, before)

    def silenced_ms(self, spoken: Spoken, *, quiet_ms: int = 200) -> float | None:
        """From the first sound of an utterance spoken over the agent to the agent's last sound before a
        pause longer than `quiet_ms`; None if the agent was not heard then."""
        if spoken.first_sound_us is None:
            return None
        silent_us = self.ears.sounds.silent_from(spoken.first_sound_us, quiet_ms=quiet_ms)
        return None if silent_us is None else (silent_us - spoken.first_sound_us) / 1000

    async def write_recording(self, path: Path) -> None:
        """Write what was said (left) and heard (right). Needs `open_call(records=True)`."""
        assert self.ears.track is not None, "the call was not recorded"
        await to_thread.run_sync(write_recording, path, track_of(self.mouth.spoken), self.ears.track)

    async def _hear_out(self, before: int, what: str) -> None:
        """Wait until the newest turn after `before` is over, by its event and by ear."""
        await self._within(self._patience.reply_ms, what, lambda story: _has_begun(story, before))
        while True:
            await self._within(
                self._patience.speech_ms, f"the end of {what}", lambda story: _is_over(story, before)
            )
            await self.ears.quiet(QUIET_MS)
            if _is_over(self.story, before):
                return

    async def _within(self, timeout_ms: int, what: str, is_so: Callable[[Story], bool]) -> None:
        """Time without a line does not count."""
        away_ms, patience_ms = self._away_ms, timeout_ms
        while patience_ms > 0:
            with anyio.move_on_after(patience_ms / 1000):
                await self.until(is_so)
                return
            patience_ms, away_ms = self._away_ms - away_ms, self._away_ms
        reasons = "; ".join(f"{error.code}: {error.message}" for error in self.story.errors) or "no error"
        heard = "" if self.story.user_transcript else " and understood nothing of the caller"
        raise CallError(
            "call.no_reply",
            f"waited {timeout_ms} ms for {what} in {self.session_id}; the server reported {reasons}{heard}",
        )

    @property
    def _away_ms(self) -> int:
        return sum(now_ms() - each.at_ms if each.gap_ms is None else each.gap_ms for each in self.reconnects)

    def _measured(self, spoken: Spoken, before: int) -> Reply:
        v2v_ms, cut_in = None, False
        if spoken.first_sound_us is not None and spoken.last_sound_us is not None:
            heard_us = self.ears.sounds.first_after(spoken.last_sound_us)
            v2v_ms = None if heard_us is None else (heard_us - spoken.last_sound_us) / 1000
            early_us = self.ears.sounds.first_after(spoken.first_sound_us)
            cut_in = early_us is not None and early_us < spoken.last_sound_us
        return Reply(turns=tuple(self.story.turns_after(before)), v2v_ms=v2v_ms, cut_in=cut_in)


def _has_turn_after(turn_id: int) -> Callable[[Story], bool]:
    return lambda story: story.last_turn_id > turn_id


def _has_begun(story: Story, before: int) -> bool:
    return any(turn.has_spoken or turn.has_ended for turn in story.turns_after(before))


def _is_over(story: Story, before: int) -> bool:
    """Whether the newest turn was said to its end: after an interruption another one is owed."""
    turns = story.turns_after(before)
    return bool(turns) and turns[-1].has_ended and not turns[-1].is_interrupted
