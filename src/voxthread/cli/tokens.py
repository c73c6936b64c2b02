"""`voxthread token mint`: who may call, follow or administer, for how long."""

import re
from pathlib import Path
from typing import Annotated, Final

import typer

from voxthread.cli.terminal import AsJson, ConfigFile, config_of, fail, guarded, print_result
from voxthread.observability.clock import now_ms
from voxthread.sessions.tokens import Scope, mint_token
from voxthread.wire.events import format_instant

_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

token_commands = typer.Typer(no_args_is_help=True, help="Bearer tokens for a server that has a key.")


@token_commands.command("mint")
def mint(
    principal: Annotated[str, typer.Option(help="Who it is for: sessions belong to their principal.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it allows; may be repeated. Default: whip:publish and events:read."),
    ] = None,
    lifetime: Annotated[str, typer.Option(help="How long it is valid: 90s, 30m, 8h, 30d.")] = "1h",
    key_file: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="The private key, PEM, where the server's is a public one."
        ),
    ] = None,
    config_file: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Mint a bearer token, signed with the key of the configuration (VOXTHREAD_AUTH__KEY).

    whip:publish opens calls, events:read follows and lists the principal's own sessions, admin does everything
    with everybody's. Without --json the token alone is printed.
    """
    auth = config_of(config_file).auth
    key = key_file.read_text() if key_file else auth.key.get_secret_value() if auth.key else None
    if key is None:
        fail("key_missing", "set VOXTHREAD_AUTH__KEY to the server's secret, or give --key-file")
    expires_at_s = now_ms() // 1000 + _seconds(lifetime)
    scopes = scope or [Scope.PUBLISH, Scope.READ_EVENTS]
    token = guarded(
        lambda: mint_token(
            key,
            algorithm=auth.algorithm,
            audience=auth.audience,
            principal=principal,
            scopes=scopes,
            expires_at_s=expires_at_s,
        )
    )
    if as_json:
        expires_at = format_instant(expires_at_s * 1000)
        named = [each.value for each in scopes]
        print_result(
            {"token": token, "principal": principal, "scopes": named, "expires_at": expires_at}, as_json
        )
    else:
        print(token)


def _seconds(lifetime: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([smhd])", lifetime)
    if found is None:
        fail("token.lifetime", f"{lifetime} is no lifetime: write 90s, 30m, 8h or 30d")
    return int(found[1]) * _UNITS_S[found[2]]
