"""`asyncfetch cache …`: the commands that look at the cache and look after it."""

from __future__ import annotations

import typer

from asyncfetch.cli import cache_archive, cache_look, cache_pins, cache_quarantine, cache_remove, cache_verify

app = typer.Typer(
    help="Look at the cache, and look after it. Safe while jobs run.", no_args_is_help=True, add_completion=False
)

app.command("stats")(cache_look.stats)
app.command("ls")(cache_look.ls)
app.command("verify")(cache_verify.verify)
app.command("pin")(cache_pins.pin)
app.command("unpin")(cache_pins.unpin)
app.command("pins")(cache_pins.pins)
app.command("release")(cache_quarantine.release)
app.command("export")(cache_archive.export)
app.command("import")(cache_archive.import_)
app.command("prune")(cache_remove.prune)
app.command("rm")(cache_remove.rm)
app.command("clear")(cache_remove.clear)
