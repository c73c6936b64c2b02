"""A chaos for a person to read: while it goes on, and its figures at the end."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from voxthread.chaos.caller import Question
from voxthread.chaos.figures import text_of
from voxthread.chaos.outcome import Heard, Run
from voxthread.chaos.table import FIGURES, Row

_HEADINGS = {
    "added_silence_ms": "added silence",
    "reply_delay_ms": "reply later",
    "back_ms": "heard again",
    "answered_after_back_ms": "answered after outage",
}


class ChaosPrinter:
    """Tells each call as it ends."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def began(self, server_url: str, log_file: Path, seed: int) -> None:
        self._console.print(
            f"server [bold]{server_url}[/bold], its log {log_file}, seed [bold]{seed}[/bold]", soft_wrap=True
        )

    def undisturbed(self, question: Question, heard: Heard) -> None:
        v2v = "never answered" if heard.v2v_ms is None else f"answered after {heard.v2v_ms:.0f} ms"
        self._say(
            "undisturbed", "dim", f"{question.agent}: {question.text} {v2v}, {heard.reply_ms:.0f} ms long"
        )

    def row(self, row: Row) -> None:
        self._console.print(f"[bold]{row.name}[/bold]")

    def ran(self, run: Run) -> None:
        blow, heard = run.blow, run.heard
        if blow is None or heard is None:
            self._say("failed", "red", f"{run.problem} ({run.session_id})")
            return
        told = [f"{blow.role} {blow.pid} while {run.phase.value}"]
        told += [
            f"{heading} {value:.0f} ms"
            for name, heading in _HEADINGS.items()
            if (value := getattr(run, name)) is not None
        ]
        told += [f"taken over in {gap_ms} ms" for gap_ms in heard.takeovers_ms]
        told += [] if run.problem is None else [f"[red]{escape(run.problem)}[/red]"]
        told += [f"[red]{wrong}[/red]" for wrong in _wrongs(run, heard)]
        self._say("struck", "cyan", ", ".join(told))

    def news(self, text: str) -> None:
        self._say("", "dim", escape(text))

    def _say(self, what: str, style: str, text: str) -> None:
        self._console.print(f"[{style}]{what:>11}[/{style}] {text}", soft_wrap=True)


def figures_table(rows: Sequence[dict[str, Any]]) -> Table:
    """From the JSON of rows; times are milliseconds, median / 95th percentile / longest."""
    measured = [name for name in FIGURES if any(row[name]["median"] is not None for row in rows)]
    table = Table(title="ms: median / p95 / max", title_justify="left")
    for heading in ("kill", "calls", *(_HEADINGS[name] for name in measured), "taken over in", "words lost"):
        table.add_column(heading)
    for heading in ("repeated", "stuck", "history equal", ""):
        table.add_column(heading)
    for row in rows:
        table.add_row(
            row["row"],
            str(row["calls"]),
            *(text_of(row[name]) for name in measured),
            text_of(row["takeover_ms"]),
            *(str(row[name]) for name in ("words_lost", "sentences_repeated", "sessions_stuck")),
            str(row["history_equal_fraction"]),
            "[green]pass[/green]" if row["passed"] else f"[red]{escape('; '.join(row['breaches']))}[/red]",
        )
    return table


def _wrongs(run: Run, heard: Heard) -> list[str]:
    wrongs = {
        "user words lost": run.user_words_lost,
        "agent words lost": run.agent_words_lost,
        "sentences repeated": run.sentences_repeated,
        "stuck": heard.is_stuck,
        "another history": run.history_equal is False,
        "roles not adopted": run.adopted is False,
    }
    return [f"{count if count is not True else ''} {what}".strip() for what, count in wrongs.items() if count]
