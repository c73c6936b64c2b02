"""`voxthread bus`: the log, looked at from outside."""

from typing import Annotated

import typer

from voxthread.cli.terminal import AsJson, ConfigFile, config_of, print_result, run

bus_commands = typer.Typer(no_args_is_help=True, help="The log that the roles share.")


@bus_commands.callback()
def log_commands() -> None:
    """Makes `check` a command of its own name although it is the only one."""


@bus_commands.command()
def check(
    bus: Annotated[str | None, typer.Option("--bus", help="sqlite:FILE or kafka://HOST:PORT,...")] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Say what is wrong with the log and how to mend it; fails if it cannot be used. Changes nothing."""
    from voxthread.bus.check import check_bus

    config = config_of(config_file, bus={"url": bus})
    report = run(lambda: check_bus(config.log_url, config.bus))
    findings = [
        {"severity": f.severity.value, "subject": f.subject, "found": f.found, "mend": f.mend}
        for f in report.findings
    ]
    print_result({"bus": report.bus, "usable": report.is_usable, "findings": findings}, as_json)
    if not report.is_usable:
        raise typer.Exit(1)
