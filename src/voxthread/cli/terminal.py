"""What all commands share: options, how a command runs, how it answers and how it fails."""

import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import anyio
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from voxthread.config import Config, read_config
from voxthread.core.failures import VoiceError
from voxthread.observability.logs import configure_logging

DEFAULT_URL = "http://127.0.0.1:8080"

_WIDEST = 1_000

progress = Console(stderr=True, highlight=False)

Url = Annotated[str, typer.Option(envvar="VOXTHREAD_URL", help="Base address of the server.")]
Token = Annotated[str | None, typer.Option(envvar="VOXTHREAD_TOKEN", help="Bearer token, where one is needed.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
CallerVoice = Annotated[
    Literal["auto", "piper", "espeak"], typer.Option(help="Voice of the texts: the bundled one, or espeak-ng.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", exists=True, dir_okay=False, help="A TOML file.")]

T = TypeVar("T")


def config_of(config_file: Path | None, **sections: dict[str, Any]) -> Config:
    """Flags over environment over file; what was not given on the command line is left out."""
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    try:
        return read_config(config_file, **{section: values for section, values in given.items() if values})
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
        fail("config.invalid", "; ".join(wrong))


def run(task: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end; a known error is one line and exit code 1, Ctrl-C is 130."""
    configure_logging("warning")
    return guarded(lambda: anyio.run(task, backend_options={"use_uvloop": True}))


def guarded(work: Callable[[], T]) -> T:
    try:
        return work()
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except (VoiceError, BaseExceptionGroup) as failed:
        if (error := _known(failed)) is None:
            raise
        fail(error.code, error.detail)


def _known(failed: BaseException) -> VoiceError | None:
    """The error a task group wrapped, if all it wraps are errors of ours."""
    if isinstance(failed, BaseExceptionGroup):
        found = [_known(error) for error in failed.exceptions]
        return found[0] if all(found) else None
    return failed if isinstance(failed, VoiceError) else None


def fail(code: str, detail: str) -> NoReturn:
    progress.print(f"[red]error[/red] {code}: {detail}", soft_wrap=True)
    raise typer.Exit(1)


def print_result(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        json.dump(result, sys.stdout, ensure_ascii=False)
        sys.stdout.write("\n")
    else:
        Console(highlight=False).print_json(data=result)


def print_table(table: Table, *, on_stderr: bool = False) -> None:
    """Ids and figures are there to be copied: on a narrow terminal or a pipe the lines grow, nothing is cut."""
    console = Console(stderr=on_stderr, highlight=False)
    wanted = console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum
    Console(stderr=on_stderr, highlight=False, width=max(console.width, wanted)).print(table)
