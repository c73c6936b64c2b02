"""What is demanded of each kill, and whether a row of calls meets it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from voxthread.chaos.figures import share, spread
from voxthread.chaos.outcome import Run, measured, run_json
from voxthread.chaos.plan import How, Phase, Target

FIGURES = ("added_silence_ms", "reply_delay_ms", "back_ms", "answered_after_back_ms")

ALL_PHASES = (Phase.LISTENING, Phase.THINKING, Phase.SPEAKING)

ONE_HOST_MS, OTHER_HOST_MS = 1_000, 1_500
"""How much later a reply may come when its owner dies: seen by a supervisor, or missed for a lease."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Calls that are struck alike. `limits` are for the 95th percentile, by name of the figure."""

    target: Target
    phases: tuple[Phase, ...]
    how: How = How.KILL
    limits: Mapping[str, float] = field(default_factory=dict)
    keeps_words: bool = True
    """Whether no word may be lost; a caller without a line is not heard."""
    is_unnoticed: bool = False
    """Whether no call may even change its owner."""

    @property
    def name(self) -> str:
        where = "any phase" if len(self.phases) > 1 else self.phases[0].value
        return f"{self.how.value} {self.target.value}, {where}"


def row_of(target: Target, how: How, phases: Sequence[Phase], brokers: int) -> Row:
    """What is demanded of this kill, in these phases or in those that the table has it in."""
    late_ms = ONE_HOST_MS if how is How.KILL else OTHER_HOST_MS
    silent_ms = 300 if how is How.KILL else OTHER_HOST_MS
    usual = tuple(phases) or ALL_PHASES
    match target:
        case Target.ORCHESTRATOR:
            limits = {"added_silence_ms": silent_ms} if Phase.SPEAKING in usual else {}
            limits |= {"reply_delay_ms": late_ms} if {*usual} - {Phase.SPEAKING} else {}
            return Row(target=target, phases=usual, how=how, limits=limits)
        case Target.SERVE:
            limits = {"added_silence_ms": 300, "reply_delay_ms": ONE_HOST_MS}
            return Row(target=target, phases=usual, limits=limits, is_unnoticed=True)
        case Target.MEDIA:
            during = tuple(phases) or (Phase.SPEAKING,)
            is_heard = during == (Phase.SPEAKING,)
            return Row(target=target, phases=during, limits={"back_ms": 3_000}, keeps_words=is_heard)
        case Target.BROKER:
            asked = usual if brokers > 1 else tuple(phases) or (Phase.LISTENING,)
            return Row(target=target, phases=asked, limits={"answered_after_back_ms": 3_000})


def rows_of_table(brokers: int) -> list[Row]:
    """The rows for a bus of so many brokers, 0 if it is a file. A lost host takes a bus between hosts."""
    rows = [row_of(Target.ORCHESTRATOR, How.KILL, [phase], brokers) for phase in ALL_PHASES]
    if brokers:
        rows.append(row_of(Target.ORCHESTRATOR, How.STOP, [], brokers))
    rows += [row_of(target, How.KILL, [], brokers) for target in (Target.SERVE, Target.MEDIA)]
    if brokers:
        rows.append(row_of(Target.BROKER, How.KILL, [], brokers))
    return rows


def breaches(row: Row, runs: Sequence[Run]) -> Iterator[str]:
    """What these calls did not keep to, for a person."""
    if failed := [run for run in runs if run.problem]:
        yield f"{len(failed)} calls failed: {failed[0].problem}"
    figures = summary(runs)
    for name, limit_ms in row.limits.items():
        p95 = figures[name]["p95"]
        if p95 is None:
            yield f"{name} not measured: no call was struck where it shows; take more calls"
        elif p95 > limit_ms:
            yield f"{name} p95 {p95}, must be <= {limit_ms:.0f}"
    if row.keeps_words and figures["words_lost"]:
        yield f"{figures['words_lost']} words lost"
    if figures["sentences_repeated"]:
        yield f"{figures['sentences_repeated']} sentences repeated"
    if figures["sessions_stuck"]:
        yield f"{figures['sessions_stuck']} sessions stuck"
    if row.keeps_words and figures["history_equal_fraction"] not in (None, 1.0):
        yield f"history equal in {figures['history_equal_fraction']}"
    if row.is_unnoticed and (moved := [run for run in runs if run.heard and run.heard.takeovers_ms]):
        yield f"{len(moved)} calls changed their owner"
    if any(run.adopted is False for run in runs):
        yield "a supervisor did not adopt the roles"


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """The figures of docs/cli.md."""
    takeovers = [gap_ms for run in runs if run.heard for gap_ms in run.heard.takeovers_ms]
    equal = [run.history_equal for run in runs if run.history_equal is not None]
    return {
        **{name: spread(measured(_in_phase(runs, name), name)) for name in FIGURES},
        "takeover_ms": spread(takeovers),
        "words_lost": sum(run.user_words_lost + run.agent_words_lost for run in runs),
        "sentences_repeated": sum(run.sentences_repeated for run in runs),
        "sessions_stuck": sum(run.heard.is_stuck for run in runs if run.heard),
        "history_equal_fraction": share(equal),
        "zombie_records": sum(run.zombie_records for run in runs),
        "calls_failed": sum(run.problem is not None for run in runs),
    }


def row_json(row: Row, runs: Sequence[Run]) -> dict[str, Any]:
    found = list(breaches(row, runs))
    return {
        "row": row.name,
        "calls": len(runs),
        **summary(runs),
        "limits_p95_ms": dict(row.limits),
        "passed": not found,
        "breaches": found,
        "runs": [run_json(run) for run in runs],
    }


def _in_phase(runs: Sequence[Run], figure: str) -> list[Run]:
    """Those whose blow could show in it: a reply is delayed before it is heard, and silenced while it is."""
    match figure:
        case "added_silence_ms":
            return [run for run in runs if run.phase is Phase.SPEAKING]
        case "reply_delay_ms":
            return [run for run in runs if run.phase is not Phase.SPEAKING]
        case _:
            return list(runs)
