"""What pages of HTML have in common that are opened from a disk: one file, light and dark, and nothing loaded."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import NamedTuple


class Picture(NamedTuple):
    """A small picture of a page, as WebP."""

    name: str
    webp: bytes


def begun(title: str, style: str, *, script: str = "", images: str = "data:") -> str:
    """A page up to its body, with the style that all have and its own.

    Of scripts only `script` runs, which is to be put into the page by `<script>`; images are loaded only from
    `images`, sources in the words of the Content Security Policy.
    """
    digest = b64encode(sha256(script.encode()).digest()).decode()
    scripts = f" script-src 'sha256-{digest}';" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f"<title>{escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" '
        f"content=\"default-src 'none'; img-src {images}; style-src 'unsafe-inline';{scripts}\">\n"
        f"<style>{_STYLE}{style}</style></head><body>"
    )


def embedded(picture: Picture) -> str:
    """A picture as the source of an image in the page itself."""
    return f"data:image/webp;base64,{b64encode(picture.webp).decode()}"


_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d2125; --dim: #626a73; --line: #d9dde2; --sunk: #f3f5f7;
--accent: #1a7f5a; --mark: #b4540a; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e9ec; --dim: #9aa3ad; --line: #333a42;
--sunk: #1f242a; --accent: #4cc295; --mark: #f0a35e; } }
body { font: 15px/1.5 system-ui, sans-serif; background: var(--paper); color: var(--ink); }
h1 { font-size: 1.3rem; overflow-wrap: anywhere; }
dl { display: flex; flex-wrap: wrap; gap: 1rem 2rem; } dt { color: var(--dim); font-size: .85em; }
dd { margin: 0; font-size: 1.2em; overflow-wrap: anywhere; }
"""
