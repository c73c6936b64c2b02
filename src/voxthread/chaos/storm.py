"""Random chaos: many calls at once, something killed every few seconds, and at the end everything in order?"""

from collections.abc import Callable, Mapping, Sequence
from itertools import cycle, islice
from typing import Final

import anyio

from voxthread.chaos.caller import PATIENCE, Question
from voxthread.chaos.failures import ChaosError
from voxthread.chaos.outcome import Heard
from voxthread.chaos.plan import Strike, Target, strikes
from voxthread.chaos.processes import footprint, kill
from voxthread.chaos.server import ChaosServer
from voxthread.chaos.tally import NOTHING, Footprint, Tally, held_between
from voxthread.chaos.texts import sentences_repeated, words_missing
from voxthread.client.call import Call
from voxthread.client.dial import open_call
from voxthread.client.failures import CallError
from voxthread.client.sessions import SessionsClient
from voxthread.core import events
from voxthread.core.failures import VoiceError
from voxthread.wire.events import Envelope

TARGETS: Final = (Target.ORCHESTRATOR, Target.MEDIA, Target.SERVE)
SPEAKERS: Final = 2
"""Callers who talk at the same time, while the others hold the line: two cores have no more breath."""
QUESTIONS_PER_CALL: Final = 4
_UNSUPERVISED_S: Final = 2
_ENDED_S: Final = 100
"""A session whose caller could not say goodbye ends by itself within 90 s."""


class Storm:
    """On one server. `undisturbed` is what each question was answered with in calm weather."""

    def __init__(
        self,
        server: ChaosServer,
        questions: Sequence[Question],
        undisturbed: Mapping[str, Heard],
        on_news: Callable[[str], None],
    ) -> None:
        self._server = server
        self._questions = questions
        self._undisturbed = undisturbed
        self._on_news = on_news
        self._tally = Tally()
        self._breath = anyio.CapacityLimiter(SPEAKERS)
        self._is_over = False

    async def rage(self, *, callers: int, minutes: float, seed: int) -> Tally:
        """Returns when all is calm again. Raises `ChaosError` if the server does not come back."""
        before = self._footprints()
        async with anyio.create_task_group() as tasks:
            for number in range(callers):
                tasks.start_soon(self._keep_calling, number)
            with anyio.move_on_after(minutes * 60):
                for strike in strikes(seed, TARGETS):
                    await anyio.sleep(strike.after_ms / 1000)
                    with anyio.CancelScope(shield=True):
                        await self._carry_out(strike)
            self._is_over = True
        await self._server.whole()
        self._tally.stuck = await self._still_live()
        self._tally.held = held_between(before, self._footprints())
        return self._tally

    async def _carry_out(self, strike: Strike) -> None:
        if strike.target is Target.SERVE:
            role, pid = "serve", self._server.supervisor_pid
        else:
            roles = [role for role in self._server.roles().values() if role.name.startswith(strike.target)]
            if not roles:
                return
            victim = roles[int(strike.victim * len(roles))]
            role, pid = victim.name, victim.pid
        try:
            kill(pid)
        except ProcessLookupError:
            return  # it died of the last blow and is not yet back
        self._tally.strikes[strike.target.value] += 1
        self._on_news(f"struck {role} {pid}")
        if strike.target is Target.SERVE:
            await anyio.sleep(_UNSUPERVISED_S)
            self._server.supervise()

    # -- callers ------------------------------------------------------------------------------------------

    async def _keep_calling(self, number: int) -> None:
        """Always the same agent, about something else each time."""
        agent = self._questions[number % len(self._questions)].agent
        questions = cycle([each for each in self._questions if each.agent == agent])
        while not self._is_over:
            await self._hold_call(list(islice(questions, QUESTIONS_PER_CALL)))

    async def _hold_call(self, questions: Sequence[Question]) -> None:
        session_id = "no session"
        self._tally.calls += 1
        try:
            async with open_call(
                self._server.url, agent=questions[0].agent, patience=PATIENCE, on_event=self._take
            ) as call:
                session_id = call.session_id
                self._tally.session_ids.append(session_id)
                await call.greeting()
                for question in questions:
                    if not self._is_over:
                        async with self._breath:
                            await self._ask(call, question)
                self._tally.reconnects += len(call.reconnects)
        except CallError as error:
            self._tally.failed.append(f"{error.code}: {error.detail} ({session_id})")
            self._on_news(f"call failed: {self._tally.failed[-1]}")
            await anyio.sleep(1)

    async def _ask(self, call: Call, question: Question) -> None:
        self._tally.asked += 1
        reply = await call.reply(await call.say(question.utterance))
        self._tally.answered += 1
        usual = self._undisturbed[question.text]
        heard = " ".join(turn.heard_text for turn in reply.turns if turn.heard_text)
        self._tally.words_lost += words_missing(usual.user_text, " ".join(t.user_text for t in reply.turns))
        self._tally.sentences_repeated += sentences_repeated(usual.heard_text, heard)
        if reply.v2v_ms is not None and usual.v2v_ms is not None:
            self._tally.reply_delays_ms.append(reply.v2v_ms - usual.v2v_ms)

    def _take(self, envelope: Envelope) -> None:
        if isinstance(envelope.event, events.OrchestratorTakeover):
            self._tally.takeovers_ms.append(envelope.event.gap_ms)

    # -- afterwards ---------------------------------------------------------------------------------------

    async def _still_live(self) -> list[str]:
        """The sessions that have not ended although all callers are gone."""
        live = ["unknown"]
        with anyio.move_on_after(_ENDED_S):
            async with SessionsClient(self._server.url) as sessions:
                while live:
                    try:
                        page = await sessions.page(state="live", limit=200)
                    except VoiceError as error:
                        raise ChaosError("chaos.not_calm", f"after the storm: {error.detail}") from None
                    live = [each["session_id"] for each in page["sessions"]]
                    await anyio.sleep(1 if live else 0)
        return live

    def _footprints(self) -> dict[str, Footprint]:
        """Of all processes of a kind together: which of two works, and which waits, may have changed."""
        pids = [("serve", self._server.supervisor_pid)]
        pids += [(role.name.partition("-")[0], role.pid) for role in self._server.roles().values()]
        found: dict[str, Footprint] = {}
        for kind, pid in pids:
            held = footprint(pid)
            if held is not None:
                found[kind] = held + found.get(kind, NOTHING)
        return found
