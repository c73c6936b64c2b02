"""A session as a timeline for a person, from the JSON of `/v1/sessions`. Pure."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

_HIDDEN = ("agent.reply_delta", "turn.timing", "user.speech_started", "user.speech_stopped")


def sessions_table(sessions: list[dict[str, Any]]) -> Table:
    table = Table(box=None)
    for heading in ("created", "session", "frontend id", "agent", "turns", "warnings", "state"):
        table.add_column(heading, no_wrap=True)
    for each in sessions:
        alias = each["frontend_session_id"]
        table.add_row(
            _clock(each["created_at"]),
            each["session_id"],
            "" if alias == each["session_id"] else alias,
            escape(each["agent"]),
            str(each["turns"]),
            str(each["warnings"]),
            each["state"] if each["end_reason"] is None else f"ended: {escape(each['end_reason'])}",
        )
    return table


def story_lines(story: dict[str, Any]) -> Iterator[str]:
    """Two lines of who and what, then everything that happened, in order."""
    alias = story["frontend_session_id"]
    yield f"[bold]{story['session_id']}[/bold]" + (
        "" if alias == story["session_id"] else f"  frontend {alias}"
    )
    began, ended = story["created_at"], story["ended_at"]
    length = f", {(_ms(ended) - _ms(began)) / 1000:.1f} s" if began and ended else ""
    state = f"ended: {escape(story['end_reason'])}" if story["end_reason"] else "live"
    seen_by = ", ".join(story["components"])
    yield f"[dim]agent {escape(story['agent'])}, seen by {seen_by}; {state}{length}[/dim]"
    told = [*_milestones(story), *_turns(story), *_warnings(story)]
    for at, lines in sorted(told, key=lambda each: _ms(each[0])):
        for number, line in enumerate(lines):
            yield (f"[dim]{_clock(at)}[/dim]  " if number == 0 else " " * 14) + line


def event_line(event: dict[str, Any]) -> str | None:
    """An event as it comes; None for those too many to read."""
    if event["type"] in _HIDDEN or event.get("final") is False:
        return None
    said = [
        str(event[name])
        for name in ("text", "heard_text", "reason", "code", "rule", "message")
        if event.get(name)
    ]
    turn = "" if event.get("turn_id") is None else f"[dim]turn {event['turn_id']}[/dim] "
    return f"[dim]{_clock(event['at'])}[/dim]  {turn}{event['type']}  {escape(' '.join(said))}".rstrip()


def _milestones(story: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for each in story["milestones"]:
        yield each["at"], [f"[blue]{each['type']}[/blue]  {escape(each['detail'])}".rstrip()]


def _turns(story: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for turn in story["turns"]:
        lines = [f"[bold]turn {turn['turn_id']}[/bold]"]
        if turn["user_text"]:
            lines.append(f"[cyan]caller[/cyan]  {escape(turn['user_text'])}")
        if turn["interrupted"]:
            lines.append(f"[yellow] heard[/yellow]  {escape(turn['heard_text'] or '')} ... (interrupted)")
        elif turn["heard_text"] is not None:
            lines.append(f"[green] heard[/green]  {escape(turn['heard_text'])}")
        else:
            lines.append(f"[dim] never heard  {escape(turn['agent_text'])}[/dim]")
        if turn["stages"]:
            lines.append(
                "[dim]" + "  ".join(f"{name} {ms} ms" for name, ms in turn["stages"].items()) + "[/dim]"
            )
        yield turn["began_at"], lines


def _warnings(story: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for each in story["warnings"]:
        yield each["at"], [f"[red]{each['stage']} {each['code']}[/red]  {escape(each['message'])}"]


def _clock(at: str) -> str:
    """The time of day of an RFC 3339 instant, to the millisecond, UTC."""
    return at[11:23]


def _ms(at: str) -> float:
    return datetime.fromisoformat(at).timestamp() * 1000
