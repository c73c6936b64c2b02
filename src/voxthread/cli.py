"""The command line. Names, flags and JSON are in `docs/cli.md` and stay stable.

One JSON object on standard output with `--json`; progress and logs on standard error; not zero on failure.
"""

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import anyio
import typer
from pydantic import ValidationError
from rich.console import Console

from voxthread.config import Config, read_config
from voxthread.core.failures import VoiceError
from voxthread.observability.logs import configure_logging

DEFAULT_URL = "http://127.0.0.1:8080"

main = typer.Typer(
    name="voxthread", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__
)
bench = typer.Typer(no_args_is_help=True, help="Measure a running server.")
models = typer.Typer(no_args_is_help=True, help="The bundled models.")
main.add_typer(bench, name="bench")
main.add_typer(models, name="models")

progress = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Option(envvar="VOXTHREAD_URL", help="Base address of the server.")]
Token = Annotated[str | None, typer.Option(envvar="VOXTHREAD_TOKEN", help="Bearer token, where one is needed.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", exists=True, dir_okay=False, help="A TOML file.")]

T = TypeVar("T")


@main.command()
def serve(
    agent: Annotated[
        Path | None, typer.Argument(help="A Python file that defines agent(llm). Default: the examples.")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of HTTP and WebSocket; 0 takes a free one.")] = None,
    max_sessions: Annotated[int | None, typer.Option(help="More callers get 503.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(exists=True, help="Certificate chain, PEM.")] = None,
    tls_key: Annotated[Path | None, typer.Option(exists=True, help="Private key, PEM.")] = None,
    config_file: ConfigFile = None,
) -> None:
    """Run a server: media, agent, models and page. Ready when `GET /readyz` is 200."""
    config = _config(
        config_file,
        http={"host": host, "port": port, "tls_cert": tls_cert, "tls_key": tls_key},
        media={"max_sessions": max_sessions},
    )
    from voxthread.app.server import serve as run_server

    _run(lambda: run_server(config, agent, _announce))


@main.command()
def call(
    wav: Annotated[list[Path] | None, typer.Option(exists=True, dir_okay=False, help="Audio to speak.")] = None,
    say: Annotated[list[str] | None, typer.Option(help="Text to speak.")] = None,
    agent: Annotated[str | None, typer.Option(help="Which agent; the server's default.")] = None,
    out: Annotated[Path | None, typer.Option(help="Stereo WAV: caller left, agent right.")] = None,
    frontend_session_id: Annotated[str | None, typer.Option(help="An id of your own for the session.")] = None,
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
        models_dir=read_config().models_dir,
    )
    _print(_run(lambda: run_call(options, CallPrinter(progress))), as_json)


@bench.command()
def latency(
    turns: Annotated[int, typer.Option(min=1, help="How many questions.")] = 12,
    agent: Annotated[str, typer.Option(help="Which agent.")] = "chat",
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """Voice-to-voice latency of spoken questions over WebRTC, at the caller's ear."""
    from voxthread.client.bench import run_latency_bench
    from voxthread.client.printer import CallPrinter

    printer = CallPrinter(progress)
    models_dir = read_config().models_dir
    _print(
        _run(
            lambda: run_latency_bench(
                url, turns, agent=agent, token=token, models_dir=models_dir, printer=printer
            )
        ),
        as_json,
    )


@models.command("pull")
def pull_models(as_json: AsJson = False) -> None:
    """Fetch what is missing or damaged, by hash."""
    from voxthread.engines.models import pull

    models_dir = read_config().models_dir
    _guarded(lambda: pull(models_dir))
    list_models(as_json)


@models.command("list")
def list_models(as_json: AsJson = False) -> None:
    """Which files there are, where they come from and how they are."""
    from voxthread.engines.models import list_models as list_files

    models_dir = read_config().models_dir
    files = _guarded(lambda: list_files(models_dir))
    _print(
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
    _guarded(lambda: verify(models_dir))
    _print({"models_dir": str(models_dir), "verified": True}, as_json)


def _announce(url: str) -> None:
    """What a person who has just started a server wants to know."""
    progress.print(f"\n  Voxthread is ready. Open [bold]{url}[/bold] and talk.")
    progress.print("  Or call it from another terminal:\n")
    progress.print(f'    {sys.argv[0]} call --url {url} --say "What time is breakfast?"\n', soft_wrap=True)


def _config(config_file: Path | None, **sections: dict[str, Any]) -> Config:
    """Flags over environment over file; what was not given on the command line is left out."""
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    try:
        return read_config(config_file, **{section: values for section, values in given.items() if values})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        _fail("config.invalid", "; ".join(wrong))


def _run(task: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end; a known error is one line and exit code 1, Ctrl-C is 130."""
    configure_logging("warning")
    return _guarded(lambda: anyio.run(task, backend_options={"use_uvloop": True}))


def _guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (VoiceError, BaseExceptionGroup) as failed:
        if (error := _known(failed)) is None:
            raise
        _fail(error.code, error.detail)


def _known(failed: BaseException) -> VoiceError | None:
    """The error a task group wrapped, if all it wraps are errors of ours."""
    if isinstance(failed, BaseExceptionGroup):
        found = [_known(error) for error in failed.exceptions]
        return found[0] if all(found) else None
    return failed if isinstance(failed, VoiceError) else None


def _fail(code: str, detail: str) -> NoReturn:
    progress.print(f"[red]error[/red] {code}: {detail}", soft_wrap=True)
    raise typer.Exit(1)


def _print(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(result, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        Console(highlight=False).print_json(data=result)
