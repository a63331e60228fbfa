"""The fetcher that callers share who bring none: made of the environment with its first use."""

from __future__ import annotations

from asyncfetch.blocking.fetcher import Fetcher

shared = Fetcher()
entries = shared.entries
fetch = shared.fetch
image = shared.image
images = shared.images
list = shared.list
prefetch = shared.prefetch
read_bytes = shared.read_bytes
stat = shared.stat
