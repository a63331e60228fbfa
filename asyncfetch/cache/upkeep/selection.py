"""Which refs a command is about: everything, a scheme, a bucket, what begins with a prefix, or one object."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from asyncfetch.errors import UsageError
from asyncfetch.uris import Location, parse

if TYPE_CHECKING:
    from asyncfetch.cache.records import RefKey

_WEB = ("https://", "http://")  # what stands as the endpoint of refs to the web, where the host is the container


class Place(NamedTuple):
    """A bucket at one endpoint, or a host of the web. The same bucket name at two endpoints is two places."""

    endpoint: str
    container: str

    @property
    def scheme(self) -> str:
        """`"s3"`, `"https"` or `"http"`."""
        return self.endpoint[:-3] if self.endpoint in _WEB else "s3"

    @property
    def label(self) -> str:
        """The endpoint where it says more than the URI does: neither for AWS itself nor for the web."""
        return "" if self.endpoint in _WEB else self.endpoint


class Selection(NamedTuple):
    """The refs meant. What is None or empty does not narrow; `exact` makes `key` a whole key, not how one begins."""

    endpoint: str | None = None  # "" is AWS itself
    scheme: str | None = None
    container: str | None = None
    key: str = ""
    version: str | None = None
    exact: bool = False

    def admits(self, place: Place) -> bool:
        """True where refs of this place may be meant."""
        return (
            self.endpoint in (None, place.endpoint)
            and self.scheme in (None, place.scheme)
            and self.container in (None, place.container)
        )

    def begins(self, key: str) -> bool:
        """True for a key in the range of keys that the ones meant lie in; keys in order leave it only once."""
        return key == self.key if self.exact else key.startswith(self.key)

    def covers(self, key: RefKey) -> bool:
        """True for a ref that is meant."""
        return (
            self.admits(Place(key.endpoint, key.container))
            and self.begins(key.key)
            and self.version in (None, key.version)
        )


def select(text: str | None, *, endpoint_url: str | None = None, one: bool = False) -> Selection:
    """Reads what a user typed: None is everything, `s3://` all buckets, else a prefix, letter by letter as in S3.

    With `one` a text that names a key and does not end with a slash is that object alone. A text that ends in
    `?versionId=…` is that version of one object. `endpoint_url` narrows to one endpoint, and "" to AWS itself. Raises
    `UsageError` (`InvalidURI`) for what names nothing that the cache could hold.
    """
    endpoint = None if endpoint_url is None else endpoint_url.rstrip("/")
    if not text:
        return Selection(endpoint)
    if text.lower() == "s3://":
        return Selection(endpoint, "s3")
    location = parse(text)
    if location.scheme == "file":
        raise UsageError(f"{text}: files are served where they lie, the cache holds none", remedy="Write s3://bucket/.")
    key = location.key if location.scheme == "s3" or location.key != "/" else ""
    exact = location.version is not None or (one and key != "" and not key.endswith("/"))
    return Selection(endpoint, location.scheme, location.container, key, location.version, exact)


def uri_of(key: RefKey) -> str:
    """The URI that a ref was fetched by. It does not say the endpoint."""
    place = Place(key.endpoint, key.container)
    return str(Location(place.scheme, key.container, key.key, key.version or None))
