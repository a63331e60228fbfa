"""The command line: `asyncfetch`. One file a command; what they share is in `common`."""

from asyncfetch.cli.app import main

__all__ = ["main"]
