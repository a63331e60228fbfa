"""The fetchers that callers share who bring none: one made of the environment, and one for each access of theirs."""

from __future__ import annotations

import threading
from collections import OrderedDict

from asyncfetch.blocking.fetcher import Fetcher
from asyncfetch.blocking.lending import access_of
from asyncfetch.errors import UsageError
from asyncfetch.settings import Access

shared = Fetcher()
bytes = shared.bytes
entries = shared.entries
fetch = shared.fetch
image = shared.image
images = shared.images
list = shared.list
prefetch = shared.prefetch
read_bytes = shared.read_bytes
stat = shared.stat

_MOST = 8  # fetchers kept for an access: each has a cache open, with its thread
_others: OrderedDict[Access, Fetcher] = OrderedDict()
_choosing = threading.Lock()


def choose(fetcher: Fetcher | None = None, *, s3_client: object = None, anonymous: bool = False) -> Fetcher:
    """The fetcher that a call works with: the one it was given, one for a client of boto3, or the shared one.

    Those for clients are kept, the last eight; one that is no longer kept closes when its last call has ended. Raises
    `UsageError` where two of them are given.
    """
    if (fetcher is not None) + (s3_client is not None) + anonymous > 1:
        raise UsageError("fetcher, s3_client and anonymous each say how S3 is reached", remedy="Give one of them.")
    if fetcher is not None:
        return fetcher
    if s3_client is None and not anonymous:
        return shared
    access = Access(anonymous=True) if anonymous else access_of(s3_client)
    with _choosing:
        found = _others.pop(access, None)
        if found is None:
            found = Fetcher(access=access)
        _others[access] = found
        while len(_others) > _MOST:
            _others.popitem(last=False)
        return found
