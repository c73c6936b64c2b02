"""`voxthread session ls | show | follow`: what happened to a session, in every component, by either id."""

from typing import Annotated, Any, Final

import anyio
import typer
from rich.console import Console

from voxthread.cli.terminal import DEFAULT_URL, AsJson, Token, Url, print_result, print_table, progress, run
from voxthread.cli.timeline import event_line, sessions_table, story_lines
from voxthread.client.sessions import SessionsClient

POLL_S: Final = 0.5
"""Polling asks with the token that `show` takes; `/ws` would want the session's own, which no operator has."""

SessionIdArgument = Annotated[
    str, typer.Argument(metavar="ID", help="The session id, canonical or a frontend's.")
]

session_commands = typer.Typer(no_args_is_help=True, help="Sessions of a running server, live and ended.")


@session_commands.command("ls")
def list_sessions(
    live: Annotated[bool, typer.Option("--live", help="Only those that live.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, the newest first.")] = 50,
    cursor: Annotated[str | None, typer.Option(help="next_cursor of the page before.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = None,
    as_json: AsJson = False,
) -> None:
    """List sessions, newest first."""

    async def ask() -> dict[str, Any]:
        async with SessionsClient(url, token=token) as client:
            return await client.page(state="live" if live else None, cursor=cursor, limit=limit)

    page = run(ask)
    if as_json:
        print_result(page, as_json)
    else:
        print_table(sessions_table(page["sessions"]))


@session_commands.command("show")
def show_session(
    any_id: SessionIdArgument, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False
) -> None:
    """Tell the whole story of a session: when and where, each turn, each warning, how it ended."""

    async def ask() -> dict[str, Any]:
        async with SessionsClient(url, token=token) as client:
            return await client.show(any_id)

    _print_story(run(ask), as_json)


@session_commands.command("follow")
def follow_session(
    any_id: SessionIdArgument, url: Url = DEFAULT_URL, token: Token = None, as_json: AsJson = False
) -> None:
    """Tell what happens in a session as it happens, on standard error; at its end, its story."""

    async def follow() -> dict[str, Any]:
        async with SessionsClient(url, token=token) as client:
            after_seq, ended = 0, False
            while not ended:
                page = await client.events(any_id, after_seq=after_seq)
                for event in page["events"]:
                    if line := event_line(event):
                        progress.print(line, soft_wrap=True)
                if not page["events"] and not page["ended"]:
                    await anyio.sleep(POLL_S)
                after_seq, ended = page["next_after_seq"], page["ended"]
            return await client.show(any_id)

    story = run(follow)
    if as_json:
        print_result(story, as_json)


def _print_story(story: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_result(story, as_json)
        return
    console = Console(highlight=False)
    for line in story_lines(story):
        console.print(line, soft_wrap=True)
