"""`voxthread replay`: does a recorded session go as it went?"""

from pathlib import Path
from typing import Annotated

import typer

from voxthread.cli.terminal import AsJson, ConfigFile, config_of, print_result, run


def replay(
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="The canonical id of the session.")],
    rerun: Annotated[
        bool, typer.Option("--rerun", help="Also send its audio through today's models, in real time.")
    ] = False,
    agent: Annotated[
        Path | None, typer.Option(exists=True, help="For --rerun: the agent file of the call.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(dir_okay=False, help="Write the recorded inputs there, one a line.")
    ] = None,
    bus: Annotated[
        str | None, typer.Option("--bus", help="sqlite:FILE (default: the server's) or kafka://HOST,...")
    ] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell a recorded session to the turn machine again and compare every effect; fails at a difference."""
    config = config_of(config_file, bus={"url": bus})
    from voxthread.app.replay import replay_session

    result = run(lambda: replay_session(config, session_id, export=export, with_models=rerun, agent_file=agent))
    print_result(result, as_json)
    if not result["effects_equal"]:
        raise typer.Exit(1)
