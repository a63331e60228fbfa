"""JSON documents, read whole from S3, the web or a file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from asyncfetch.blocking.shared import choose
from asyncfetch.errors import InvalidURI, NotJSON, RangeNotSatisfiable, TooLarge
from asyncfetch.settings import MIB, parse_size
from asyncfetch.uris import Location, is_url, parse, s3

if TYPE_CHECKING:
    import os

    from asyncfetch.blocking.fetcher import Fetcher

_MOST = 64 * MIB  # of text; what Python makes of it takes some ten times as much


def get_json(
    uri: str | os.PathLike[str] | Location,
    *,
    fetcher: Fetcher | None = None,
    s3_client: object = None,
    max_bytes: int | str = _MOST,
) -> Any:
    """Reads a JSON document from `s3://`, `http(s)://` or a local path.

    No more than `max_bytes` (bytes or text, 64 MiB unless you say otherwise) are asked for, so that the document is not
    kept in the cache, and taken from there when it is there and fresh. `fetcher` and `s3_client` are as for
    `local_path`. Raises `NotJSON` or `TooLarge`, which name the URI and quote nothing of the content, and an
    `OriginError` when it cannot be had.
    """
    most = parse_size(max_bytes, name="max_bytes")
    location = uri if isinstance(uri, Location) else parse(uri)
    name = str(location)
    try:
        data = choose(fetcher, s3_client=s3_client).read_bytes(location, 0, most + 1)
    except RangeNotSatisfiable:  # so S3 says of an object without a byte
        data = b""
    if len(data) > most:
        raise TooLarge(name, f"it has more than {most:,} bytes")
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        detail = f"{error.msg} in line {error.lineno}, column {error.colno}" if data else "it is empty"
    except UnicodeDecodeError:
        detail = "it is no text"
    except RecursionError:
        detail = "it is nested too deeply"
    raise NotJSON(name, f"the content is not JSON: {detail}")


def get_json_s3(
    bucket: str,
    key: str,
    *,
    anonymous: bool = False,
    s3_client: object = None,
    max_bytes: int | str = _MOST,
) -> Any:
    """Reads a JSON document from a bucket, the key raw as S3 has it. Otherwise as `get_json`."""
    return get_json(s3(bucket, key), fetcher=choose(s3_client=s3_client, anonymous=anonymous), max_bytes=max_bytes)


def get_json_url(url: str, *, fetcher: Fetcher | None = None, max_bytes: int | str = _MOST) -> Any:
    """Reads a JSON document from the web. Raises `InvalidURI` for what is no URL. Otherwise as `get_json`."""
    if not is_url(url):
        raise InvalidURI(str(url), "it is no URL of the web", remedy="Write https://… or http://….")
    return get_json(url, fetcher=fetcher, max_bytes=max_bytes)
