"""`voxthread bench`: what a caller waits for, how turns are taken, and what calls cost."""

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from voxthread.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    CallerVoice,
    ConfigFile,
    Token,
    Url,
    config_of,
    fail,
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


@bench_commands.command("media")
def media_plane(
    sessions: Annotated[int, typer.Option(min=1, help="Calls at once.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long to measure.")] = 30,
    loss: Annotated[
        float, typer.Option(min=0, max=90, help="Share of packets lost: 0.1, or from 1 on in percent.")
    ] = 0,
    burst: Annotated[float, typer.Option(min=0, help="Mean losses in a row; 0: each by itself.")] = 0,
    jitter: Annotated[float, typer.Option(min=0, help="Packets are delayed by 0 to so many ms.")] = 0,
    round_trip: Annotated[float, typer.Option(min=0, help="Of the line, in ms.")] = 0,
    nack: Annotated[bool, typer.Option(help="Callers send again what is lost.")] = True,
    seed: Annotated[int, typer.Option(help="Loses and delays the same packets again.")] = 1,
    bus: Annotated[str, typer.Option(help="memory, sqlite:FILE or kafka://HOST:PORT.")] = "memory",
    compare: Annotated[
        Literal["aiortc"] | None, typer.Option(help="Measure it too, by the same calls.")
    ] = None,
    wer: Annotated[
        int, typer.Option(min=0, help="Then transcribe 2,000 words after each of so many lines; minutes.")
    ] = 0,
    churn: Annotated[int, typer.Option(min=0, help="Then open and close so many, 50 at a time.")] = 0,
    voice: CallerVoice = "auto",
    as_json: AsJson = False,
) -> None:
    """What calls cost a media process, and what a bad line leaves of them; no server is needed."""
    from voxthread.media_bench.bench import run_media_bench
    from voxthread.media_bench.plan import Conditions
    from voxthread.media_bench.stage import Load

    load = Load(
        sessions=sessions,
        seconds=seconds,
        conditions=Conditions(
            loss=loss if loss < 1 else loss / 100,
            burst=burst,
            jitter_ms=jitter,
            round_trip_ms=round_trip,
            nack=nack,
            seed=seed,
        ),
        bus_url=bus,
        compares_aiortc=compare is not None,
        wer_seeds=wer,
        churned_sessions=churn,
    )
    models_dir = read_config().models_dir
    result = run(lambda: run_media_bench(load, voice=voice, models_dir=models_dir, tell=progress.print))
    print_result(result, as_json)
    if not result["valid"]:
        fail("bench.invalid", "; ".join(result["invalid_because"]))
