"""A conversation at the turn machine, told as a caller would tell it."""

from typing import TypeVar

from voxthread.core import effects as do
from voxthread.core import events
from voxthread.core import inputs as i
from voxthread.core.endpointing import EndpointPolicy
from voxthread.core.failures import Failure
from voxthread.core.turn_state import TurnPolicy
from voxthread.core.turns import TurnMachine

POLICY = TurnPolicy(
    endpoint=EndpointPolicy(endpoint_ms=500, complete_ms=200, incomplete_ms=1_500, ask_every_ms=200),
    apology="Sorry.",
    line_notice="I lost you.",
    backchannels=frozenset({"mm-hm", "right", "uh huh", "uh", "huh"}),
)
BROKEN = Failure(code="llm.unreachable", stage="llm", retryable=True, detail="the model did not answer")


T = TypeVar("T")


class Scene:
    """Drives one machine and keeps what it did; `at` is the instant of the next input."""

    def __init__(self, policy: TurnPolicy = POLICY) -> None:
        self.machine = TurnMachine(policy)
        self.done: list[do.Effect] = []
        self.at = 1_000

    def hears(self, *facts: i.Input) -> list[do.Effect]:
        done = [effect for fact in facts for effect in self.machine.handle(fact, self.at)]
        self.done += done
        return done

    def waits(self, duration_ms: int) -> list[do.Effect]:
        """Let time pass, firing every deadline at its instant."""
        end, done = self.at + duration_ms, []
        while (deadline := self.machine.deadline()) is not None and deadline <= end:
            self.at = max(self.at, deadline)
            done += self.machine.handle_deadline(self.at)
        self.at = end
        self.done += done
        return done

    def says(self, text: str) -> list[do.Effect]:
        """The caller speaks for a second and is understood at once."""
        self.hears(i.SpeechStarted())
        self.waits(1_000)
        utterance_id = self.last(do.StartTranscription).utterance_id
        self.hears(i.SpeechStopped(silence_ms=200))
        return self.hears(i.TranscriptUpdated(utterance_id=utterance_id, text=text, final=True))

    def agent_speaks(self, *clauses: str, clause_ms: int = 1_000, ends: bool = True) -> int:
        """The live reply is generated and synthesized, by default whole; its first packet is heard."""
        turn_id = self.machine.live_turn_id
        assert turn_id is not None
        for number, clause in enumerate(clauses):
            self.hears(
                i.ReplyDelta(turn_id=turn_id, text=clause),
                i.ClausePlanned(turn_id=turn_id, text=clause),
                i.AudioSynthesized(turn_id=turn_id, clause=number, duration_ms=clause_ms),
            )
        if ends:
            self.hears(i.ReplyEnded(turn_id=turn_id))
        self.hears(i.PlayoutAdvanced(turn_id=turn_id, played_ms=20))
        return turn_id

    def last(self, kind: type[T]) -> T:
        return [effect for effect in self.done if isinstance(effect, kind)][-1]

    def published(self) -> list[events.Event]:
        return [effect.event for effect in self.done if isinstance(effect, do.Publish)]


def kinds(done: list[do.Effect]) -> list[str]:
    return [effect.event.TYPE if isinstance(effect, do.Publish) else type(effect).__name__ for effect in done]
