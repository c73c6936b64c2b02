"""`voxthread dlq ls | show | retry`: records that nobody could use, or that owners died of."""

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from voxthread.cli.terminal import AsJson, ConfigFile, config_of, print_result, print_table, run

BusUrl = Annotated[
    str | None, typer.Option("--bus", help="sqlite:FILE (default: the server's) or kafka://HOST,...")
]
Position = Annotated[int, typer.Argument(min=0, help="Its position, as `ls` tells it.")]

dlq_commands = typer.Typer(no_args_is_help=True, help="Records that were put aside, and why.")


@dlq_commands.command("ls")
def list_letters(bus: BusUrl = None, config_file: ConfigFile = None, as_json: AsJson = False) -> None:
    """List them, oldest first; what they hold is not shown."""
    config = config_of(config_file, bus={"url": bus})
    from voxthread.app.dead_letters import open_dead_letters

    async def ask() -> list[dict[str, Any]]:
        async with open_dead_letters(config) as letters:
            return await letters.listed()

    rows = run(ask)
    if as_json:
        print_result({"letters": rows}, as_json)
    else:
        print_table(_table(rows))


@dlq_commands.command("show")
def show_letter(
    position: Position,
    reveal: Annotated[bool, typer.Option("--reveal", help="Show text, which may be a caller's words.")] = False,
    bus: BusUrl = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say where one came from, what is wrong with it and what kind of thing it is; audio is never printed."""
    config = config_of(config_file, bus={"url": bus})
    from voxthread.app.dead_letters import open_dead_letters

    async def ask() -> dict[str, Any]:
        async with open_dead_letters(config) as letters:
            return await letters.shown(position, is_revealed=reveal)

    print_result(run(ask), as_json)


@dlq_commands.command("retry")
def retry_letter(
    position: Position, bus: BusUrl = None, config_file: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Let a session that still lives hear again what its caller said or did, once what failed is mended.

    Anything else is refused, with the reason.
    """
    config = config_of(config_file, bus={"url": bus})
    from voxthread.app.dead_letters import open_dead_letters

    async def ask() -> dict[str, Any]:
        async with open_dead_letters(config) as letters:
            return await letters.retry(position)

    print_result(run(ask), as_json)


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table("position", "at", "session", "error", "from", "bytes", "retried", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            str(row["position"]),
            row["at"],
            escape(ascii(row["session_id"])[1:-1]),
            escape(row["error"]),
            f"{row['stream']}/{row['partition']}@{row['from_position']}",
            str(row["size_bytes"]),
            "" if row["retried_as"] is None else "yes",
        )
    return table
