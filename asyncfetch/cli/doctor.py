"""`asyncfetch doctor`: what a prefix allows, and the policy that it needs."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from asyncfetch.cli.common import FAILED, Options, command, on_loop
from asyncfetch.origins.endpoints import environment_region

if TYPE_CHECKING:
    from asyncfetch.toolbox import Diagnosis, Light
    from asyncfetch.toolbox.policy import Rights

_MARKS = {"green": ("green", "ok"), "red": ("red", "FAILED"), "unknown": ("yellow", "?")}


@command
def doctor(
    options: Options,
    uri: Annotated[str, typer.Argument(help="s3://bucket/prefix")],
    write: Annotated[bool, typer.Option("--write", help="Also put, read back and delete one probe object.")] = False,
    rights: Annotated[
        str | None,
        typer.Option(
            "--policy", help="Print the least IAM policy for the prefix: read or read-write.", metavar="RIGHTS"
        ),
    ] = None,
) -> int:
    """Look at everything that reading a prefix needs, one light each with its remedy."""
    if rights is not None:
        return on_loop(lambda: _policy(options, uri, rights))  # type: ignore[arg-type] # which it checks

    async def run() -> Diagnosis:
        from asyncfetch.toolbox import diagnose

        def show(light: Light) -> None:
            if not options.json and (light.state == "red" or not options.quiet):
                _show(light, sys.stdout.isatty() and not os.environ.get("NO_COLOR"))

        async with options.fetcher() as fetcher:
            return await diagnose(fetcher, uri, write=write, seen=show)

    found = on_loop(run)
    if options.json:
        options.out(asdict(found) | {"healthy": found.healthy})
    return 0 if found.healthy else FAILED


async def _policy(options: Options, uri: str, rights: Rights) -> int:
    """Prints a policy, with the key of a bucket that has one of the customer's own, as far as that may be asked."""
    from asyncfetch.errors import AsyncfetchError
    from asyncfetch.origins.control import Control
    from asyncfetch.toolbox import policy
    from asyncfetch.uris import parse

    prefix = parse(uri)
    policy(prefix, rights)  # before anything is asked: whether there can be one
    encryption, account = None, "*"
    async with options.fetcher() as fetcher, Control(fetcher.settings, fetcher.identities) as control:
        access = fetcher.settings.access_for(prefix.container)
        region = access.region or environment_region()
        try:
            region = await control.region(prefix) or region
            encryption = await control.encryption(prefix)
            if encryption is not None and encryption.key is not None:
                account = (await control.identity(prefix)).account
        except AsyncfetchError as error:
            options.say(f"asyncfetch: whether the bucket needs a KMS key is not known: {error}")
    print(json.dumps(policy(prefix, rights, region=region, encryption=encryption, account=account), indent=2))
    return 0


def _show(light: Light, colored: bool) -> None:
    color, word = _MARKS[light.state]
    mark = typer.style(f"{word:6}", fg=color) if colored else f"{word:6}"
    print(f"{mark} {light.name:22} {light.detail}", flush=True)
    if light.remedy:
        print(f"{'':30}{light.remedy}", flush=True)
