"""The command line. Names, flags and JSON are in `docs/cli.md` and stay stable.

One JSON object on standard output with `--json`; progress and logs on standard error; not zero on failure.
"""

import os
import secrets
import socket
import sys
from pathlib import Path
from typing import Annotated

import typer

from voxthread.cli.bench import bench_commands
from voxthread.cli.bus import bus_commands
from voxthread.cli.chaos import chaos
from voxthread.cli.dlq import dlq_commands
from voxthread.cli.replay import replay
from voxthread.cli.sessions import session_commands
from voxthread.cli.terminal import (
    DEFAULT_URL,
    AsJson,
    CallerVoice,
    ConfigFile,
    Token,
    Url,
    config_of,
    fail,
    guarded,
    print_result,
    progress,
    run,
)
from voxthread.cli.tokens import token_commands
from voxthread.config import read_config

main = typer.Typer(
    name="voxthread", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
models = typer.Typer(no_args_is_help=True, help="The bundled models.")
main.add_typer(bench_commands, name="bench")
main.add_typer(models, name="models")
main.add_typer(session_commands, name="session")
main.add_typer(token_commands, name="token")
main.add_typer(bus_commands, name="bus")
main.add_typer(dlq_commands, name="dlq")
main.command()(chaos)
main.command()(replay)


ORCHESTRATORS = 2
"""One that owns calls, and another with warm models to go on with them."""

AgentFile = Annotated[
    Path | None, typer.Argument(help="A Python file that defines agent(llm). Default: the examples.")
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[int | None, typer.Option(help="Port of HTTP and WebSocket; 0 takes a free one.")]
MaxSessions = Annotated[int | None, typer.Option(help="More callers get 503.")]
TlsCert = Annotated[Path | None, typer.Option(exists=True, help="Certificate chain, PEM.")]
TlsKey = Annotated[Path | None, typer.Option(exists=True, help="Private key, PEM.")]
BusUrl = Annotated[
    str | None,
    typer.Option("--bus", help="sqlite:FILE (default: one in the state directory) or kafka://HOST,..."),
]
WorkerId = Annotated[
    str | None, typer.Option(envvar="VOXTHREAD_WORKER_ID", help="Names this life of this process.")
]


@main.command()
def serve(
    agent: AgentFile = None,
    host: Host = None,
    port: Port = None,
    max_sessions: MaxSessions = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    orchestrators: Annotated[
        int | None, typer.Option(min=1, help=f"Processes that own calls; {ORCHESTRATORS} if not given.")
    ] = None,
    single: Annotated[
        bool, typer.Option("--single", help="All in one process, which nothing survives: half the memory.")
    ] = False,
    bus: BusUrl = None,
    config_file: ConfigFile = None,
) -> None:
    """Run a server: media, agent, models and page. Ready when `GET /readyz` is 200.

    The roles are processes of their own, watched and started again: a call outlives the one that owns it.
    """
    config = config_of(
        config_file,
        http={"host": host, "port": port, "tls_cert": tls_cert, "tls_key": tls_key},
        media={"max_sessions": max_sessions},
        bus={"url": bus},
    )
    if single:
        if orchestrators is not None:
            fail("config.invalid", "--single is one process; leave out --orchestrators")
        if config.bus.url not in (None, "memory"):
            fail("config.invalid", "--single keeps its log in memory; leave out --bus, or --single")
        from voxthread.app.server import serve as run_server

        run(lambda: run_server(config, agent, _announce))
    else:
        if config.bus.url == "memory":
            fail("config.invalid", "a log in memory is for one process: add --single, or name another --bus")
        from voxthread.app.supervised import run_supervised

        run(lambda: run_supervised(config, agent, orchestrators or ORCHESTRATORS, config_file, _announce))


@main.command()
def media(
    agent: AgentFile = None,
    host: Host = None,
    port: Port = None,
    max_sessions: MaxSessions = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    bus: BusUrl = None,
    worker_id: WorkerId = None,
    spare: Annotated[
        bool, typer.Option("--spare", help="If the port is taken, get ready and take it once it is free.")
    ] = False,
    config_file: ConfigFile = None,
) -> None:
    """Run the role that faces callers; the orchestrators are elsewhere on the same `--bus`."""
    config = config_of(
        config_file,
        http={"host": host, "port": port, "tls_cert": tls_cert, "tls_key": tls_key},
        media={"max_sessions": max_sessions},
        bus={"url": bus},
    )
    from voxthread.app.media_process import run_media

    own_id = worker_id or _worker_id()
    run(lambda: run_media(config, agent, own_id, is_spare=spare))


@main.command()
def orchestrator(
    agent: AgentFile = None,
    bus: BusUrl = None,
    worker_id: WorkerId = None,
    config_file: ConfigFile = None,
) -> None:
    """Run the role that owns sessions. Run two: when one dies, the other goes on with its calls."""
    config = config_of(config_file, bus={"url": bus})
    from voxthread.app.orchestrator_process import run_orchestrator

    own_id = worker_id or _worker_id()
    run(lambda: run_orchestrator(config, agent, own_id))


@main.command()
def call(
    wav: Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Audio to speak.")] = None,
    say: Annotated[list[str] | None, typer.Option(help="Text to speak.")] = None,
    agent: Annotated[str | None, typer.Option(help="Which agent; the server's default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Stereo WAV: caller left, agent right.")] = None,
    frontend_session_id: Annotated[str | None, typer.Option(help="An id of your own for the session.")] = None,
    voice: CallerVoice = "auto",
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Call an agent: speak each WAV, then each text, in order, and hear the answers."""
    from voxthread.client.printer import CallPrinter
    from voxthread.client.script import CallOptions, run_call

    options = CallOptions(
        url=url,
        lines=(*(wav or ()), *(say or ())),
        agent=agent,
        frontend_session_id=frontend_session_id,
        token=token,
        out=out,
        voice=voice,
        models_dir=read_config().models_dir,
    )
    print_result(run(lambda: run_call(options, CallPrinter(progress))), as_json)


@models.command("pull")
def pull_models(as_json: AsJson = False) -> None:
    """Fetch what is missing or damaged, by hash."""
    from voxthread.engines.models import pull

    models_dir = read_config().models_dir
    guarded(lambda: pull(models_dir))
    list_models(as_json)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Which files there are, where they come from and how they are."""
    from voxthread.engines.models import list_models as list_files

    models_dir = read_config().models_dir
    files = guarded(lambda: list_files(models_dir))
    print_result(
        {
            "models_dir": str(models_dir),
            "files": [
                {
                    "path": str(file.path),
                    "source": file.source,
                    "holds": file.holds,
                    "license": file.license,
                    "size_bytes": file.size_bytes,
                    "state": file.state,
                }
                for file in files
            ],
        },
        as_json,
    )


@models.command("verify")
def verify_models(as_json: AsJson = False) -> None:
    """Hash every file; fails on the first that is missing or damaged and says how to repair it."""
    from voxthread.engines.models import verify

    models_dir = read_config().models_dir
    guarded(lambda: verify(models_dir))
    print_result({"models_dir": str(models_dir), "verified": True}, as_json)


def _worker_id() -> str:
    return f"{socket.gethostname()}_{os.getpid()}_{secrets.token_hex(4)}"


def _announce(url: str) -> None:
    """What a person who has just started a server wants to know."""
    progress.print(f"\n  Voxthread is ready. Open [bold]{url}[/bold] and talk.")
    progress.print("  Or call it from another terminal:\n")
    progress.print(f'    {sys.argv[0]} call --url {url} --say "What time is breakfast?"\n', soft_wrap=True)
