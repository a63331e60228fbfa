"""Everything for programs without an event loop: calls that wait, and plain iterators that prefetch.

for image in asyncfetch.blocking.images(uris):
    ...
"""

from asyncfetch.blocking.documents import get_json, get_json_s3, get_json_url
from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.blocking.lending import access_of
from asyncfetch.blocking.loader import S3ImageLoader
from asyncfetch.blocking.local import LocalResource, local_path
from asyncfetch.blocking.manager import CacheManager
from asyncfetch.blocking.shared import bytes, entries, fetch, image, images, list, prefetch, read_bytes, stat
from asyncfetch.blocking.store import DataStore, ModelRegistry
from asyncfetch.blocking.stream import Batches, Stream

__all__ = [
    "Batches",
    "CacheManager",
    "DataStore",
    "Fetcher",
    "LocalResource",
    "ModelRegistry",
    "S3ImageLoader",
    "Stream",
    "access_of",
    "bytes",
    "entries",
    "fetch",
    "get_json",
    "get_json_s3",
    "get_json_url",
    "image",
    "images",
    "list",
    "local_path",
    "prefetch",
    "read_bytes",
    "stat",
]
