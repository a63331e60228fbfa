"""Everything for programs without an event loop: calls that wait, and plain generators that prefetch.

for image in asyncfetch.blocking.images(uris):
    ...
"""

from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.blocking.shared import entries, fetch, image, images, list, prefetch, read_bytes, stat

__all__ = ["Fetcher", "entries", "fetch", "image", "images", "list", "prefetch", "read_bytes", "stat"]
