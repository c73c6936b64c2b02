"""`voxthread bench`: what a caller waits for, and how turns are taken."""

import json
from pathlib import Path
from typing import Annotated

import typer

from voxthread.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    CallerVoice,
    ConfigFile,
    Token,
    Url,
    config_of,
    print_result,
    progress,
    run,
)
from voxthread.config import read_config

bench_commands = typer.Typer(no_args_is_help=True, help="Measure.")


@bench_commands.command()
def latency(
    turns: Annotated[int, typer.Option(min=1, help="How many questions.")] = 12,
    agent: Annotated[str, typer.Option(help="Which agent.")] = "chat",
    voice: CallerVoice = "auto",
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Voice-to-voice latency of spoken questions over WebRTC, at the caller's ear."""
    from voxthread.client.bench import run_latency_bench
    from voxthread.client.printer import CallPrinter

    printer = CallPrinter(progress)
    models_dir = read_config().models_dir
    print_result(
        run(
            lambda: run_latency_bench(
                url, turns, agent=agent, token=token, voice=voice, models_dir=models_dir, printer=printer
            )
        ),
        as_json,
    )


@bench_commands.command("turns")
def turn_taking(
    kind: Annotated[
        list[str] | None, typer.Option(help="Only this kind of utterances; may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Makes the set.")] = 7,
    out: Annotated[Path | None, typer.Option(help="Write the JSON here too.")] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Cut-ins, missed ends, interruptions and words of a spoken set, in audio time; no server is needed."""
    from voxthread.turn_bench.bench import run_turn_bench
    from voxthread.turn_bench.scenes import Kind

    try:
        kinds = tuple(map(Kind, kind)) if kind else tuple(Kind)
    except ValueError:
        raise typer.BadParameter(f"a kind is one of {', '.join(Kind)}", param_hint="--kind") from None
    config = config_of(config_file)
    result = run(lambda: run_turn_bench(config, seed=seed, kinds=kinds, tell=progress.print))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n")
    print_result(result, as_json)
