"""`voxthread chaos`: kill a process in the middle of a call, and see what the caller notices."""

import secrets
from typing import Annotated, Final, Literal

import typer

from voxthread.chaos.plan import Phase
from voxthread.cli.terminal import AsJson, ConfigFile, config_of, fail, print_result, print_table, progress, run

CALLS: Final = 20
CALLERS: Final = 10

Kill = Annotated[
    Literal["orchestrator", "media", "serve", "broker", "random"] | None,
    typer.Option(help="What to kill; an orchestrator is the one that owns the call."),
]


def chaos(
    kill: Kill = None,
    at: Annotated[
        list[Phase] | None,
        typer.Option(help="When: while the caller speaks, waits, or hears. May be repeated."),
    ] = None,
    signal: Annotated[
        Literal["kill", "stop"], typer.Option(help="SIGKILL, or SIGSTOP for 5 s of it and its supervisor.")
    ] = "kill",
    calls: Annotated[
        int | None,
        typer.Option(min=1, help="How many (20), of each row with --table; at once (10) with --kill random."),
    ] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="How long --kill random lasts.")] = 15,
    seed: Annotated[int | None, typer.Option(help="Repeats the moments of an earlier run.")] = None,
    agent: Annotated[
        Literal["hotel", "chat"] | None, typer.Option(help="Whom to call; both in turn if not given.")
    ] = None,
    bus: Annotated[
        str | None,
        typer.Option("--bus", help="sqlite:FILE or kafka://HOST:PORT,...; a fresh file if not given."),
    ] = None,
    table: Annotated[
        bool, typer.Option("--table", help="Everything that can be killed, with what is demanded.")
    ] = False,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Start a server, place spoken calls, kill what they depend on, and measure what the caller notices.

    Fails if a call does not survive as it must.
    """
    from voxthread.chaos.plan import How, Target
    from voxthread.chaos.sitting import ChaosOptions, run_kill, run_random, run_table
    from voxthread.cli.chaos_report import ChaosPrinter, figures_table

    if (kill is None) == (not table):
        fail("chaos.what", "say what to kill (--kill orchestrator), or --table for everything")
    options = ChaosOptions(
        config=config_of(config_file),
        seed=secrets.randbelow(1_000_000) if seed is None else seed,
        calls=calls or CALLS,
        agent=agent,
        bus_url=bus,
        phases=at or [],
    )
    watcher = ChaosPrinter(progress)
    if kill is None:
        result = run(lambda: run_table(options, watcher))
    elif kill == "random":
        result = run(lambda: run_random(options, calls or CALLERS, minutes, watcher))
    else:
        result = run(lambda: run_kill(options, Target(kill), How(signal), watcher))
    print_table(figures_table(result.get("rows", [result])), on_stderr=True)
    if as_json:
        print_result(result, as_json)
    if not result["passed"]:
        raise typer.Exit(1)
