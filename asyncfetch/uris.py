"""What a user may call an object: S3 URIs, file URIs, web URLs and plain paths, parsed once into a `Location`."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple, TypeVar
from urllib.parse import quote, unquote

from asyncfetch.errors import InvalidURI
from asyncfetch.presigned import redacting

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_VERSION = "?versionId="
_VERSION_ID = re.compile(r"[^?&#/\s\ud800-\udfff]*\Z")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_BUCKET = re.compile(r"[^\s/?#\x00-\x1f\x7f\ud800-\udfff]+\Z")
# The ARNs that stand for a bucket in requests, as botocore takes them: access points of one region or several, of
# Object Lambda, and of Outposts. Each has a slash or a colon of its own in the place of the first after a bucket.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/access-points-naming.html
_ARN = re.compile(
    r"arn:aws[a-z-]*:(?:"
    r"(?:s3|s3-object-lambda):[a-z0-9-]*:[0-9]{12}:accesspoint[/:][A-Za-z0-9.-]{1,63}"
    r"|s3-outposts:[a-z0-9-]+:[0-9]{12}:outpost[/:][A-Za-z0-9-]{1,63}[/:]accesspoint[/:][A-Za-z0-9-]{1,63}"
    r")(?=/|\Z)"
)
# What most are, and all that is to be said of them; others are read more closely. With a colon a bucket may be an ARN,
# and with a question mark a key may end with a version.
_USUAL = re.compile(rf"s3://([A-Za-z0-9._-]+)/([ ->@-~]{{1,{MAX_KEY_BYTES}}})\Z")
_WINDOWS = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # a drive and a root, or a share
_UNSENDABLE = re.compile(r"[\x00-\x20\x7f\ud800-\udfff]")  # what would break a request line, or cannot be sent at all


@redacting
class Location(NamedTuple):
    """Where one object is: the parsed form of a URI, and the way to name what a URI cannot.

    `scheme` is `"s3"`, `"file"`, `"http"` or `"https"`. For S3, `container` is the bucket, or the ARN of an access
    point, and `key` the raw key, never percent-decoded. For a file, `container` is empty and `key` is the path. For the
    web, `container` is the host with its port, and `key` the rest as it was written.
    """

    scheme: str
    container: str
    key: str
    version: str | None = None

    def __str__(self) -> str:
        if self.scheme == "s3":
            if self.version is not None:
                return f"s3://{self.container}/{self.key}{_VERSION}{self.version}"
            # An empty version closes a key which itself ends like one, so that parse() gives back what str() wrote.
            guard = _VERSION if _VERSION in self.key and _split_version(self.key)[0] != self.key else ""
            return f"s3://{self.container}/{self.key}{guard}"
        if self.scheme == "file":
            # Names that are not UTF-8 come as surrogates (PEP 383); their bytes are what a URI can say.
            return f"file://{quote(self.key, safe='/~', errors='surrogateescape')}"
        return f"{self.scheme}://{self.container}{self.key}"


def s3(bucket: str, key: str, version: str | None = None) -> Location:
    """Names an S3 object by its parts, for keys that a URI would misread (`photo?versionId=1` can be a key).

    `bucket` is its name, or the ARN of an access point. Raises `InvalidURI` where `parse` would: a bucket or key that
    S3 cannot have.
    """
    location = Location("s3", bucket, key, version or None)
    _check_s3(bucket, key, location.version, str(location))
    return location


def parse(uri: str | os.PathLike[str]) -> Location:
    """Reads a URI, or a path when there is no scheme.

    - `s3://bucket/key`, with `?versionId=...` at its very end as the version. Keys are raw: `%20` is three characters,
      and `..`, `//`, a leading or a trailing slash are kept as they are. An empty version means no version. The bucket
      can be the ARN of an access point: `s3://arn:aws:s3:us-west-2:123456789012:accesspoint/name/key`.
    - `file:///path`, percent-decoded (RFC 8089), and plain paths, which are not. Relative paths are resolved against
      the current directory now, so a later `chdir` changes nothing.
    - `https://…` and `http://…`, without the fragment.

    Raises `InvalidURI` for another scheme, a missing bucket, a key of more than 1,024 bytes of UTF-8, a web URL with
    spaces, control characters, a user name or a password, and for what is neither text nor a path.
    """
    if type(uri) is str and (usual := _USUAL.match(uri)) is not None:
        return Location("s3", usual[1], usual[2])
    try:
        text = os.fspath(uri)
    except TypeError:
        raise InvalidURI(repr(uri), "it is neither text nor a path") from None
    if isinstance(text, bytes):
        raise InvalidURI(repr(text), "a path in bytes is not supported", remedy="Pass it through os.fsdecode first.")
    if text.startswith("s3://"):
        return _parse_s3(text)
    found = _SCHEME.match(text) if isinstance(uri, str) else None
    if found is None:
        return _file(text, text)
    scheme = found[1].lower()
    rest = text[found.end() :]
    if scheme == "s3":
        return _parse_s3("s3://" + rest)
    if scheme == "file":
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost"):
            raise InvalidURI(
                text, f"the file would be on another host, {host!r}", remedy="Write file:///path with three slashes."
            )
        return _file(unquote(slash + path, errors="surrogateescape"), text)
    if scheme in ("http", "https"):
        host, slash, path = rest.partition("#")[0].partition("/")
        host, question, query = host.partition("?")
        if not host:
            raise InvalidURI(text, "it names no host")
        if "@" in host:
            shown = f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
            raise InvalidURI(shown, "a user name or password in a URL would end in logs and in the cache")
        if _UNSENDABLE.search(rest):
            raise InvalidURI(ascii(text), "a URL cannot contain this character", remedy="Percent-encode it.")
        return Location(scheme, host, (question and f"/?{query}") + slash + path if slash or question else "/")
    raise InvalidURI(
        text, f"the scheme {scheme!r} is not known", remedy="Use s3://, https://, http://, file:// or a path."
    )


def parse_s3_uri(uri: str | os.PathLike[str]) -> tuple[str, str]:
    """Reads bucket and raw key from an S3 URI.

    Raises `InvalidURI` where `parse` does, for other URIs and paths, and for a version, which would be lost.
    """
    location = parse(uri)
    if location.scheme != "s3":
        raise InvalidURI(os.fspath(uri), "it is no URI of S3", remedy="Write s3://bucket/key.")
    if location.version is not None:
        raise InvalidURI(os.fspath(uri), "it names a version", remedy="asyncfetch.uris.parse reads it whole.")
    return location.container, location.key


def is_url(value: object) -> bool:
    """Whether something is a URL of the web, of http or https, as text or `Location`."""
    return _scheme_of(value) in ("http", "https")


def is_file_path(value: object) -> bool:
    """Whether something names a file: a path by its form, POSIX or Windows, or a file URI. It need not be there."""
    return _scheme_of(value) == "file"


def as_pathlike(name: str | os.PathLike[str] | Location) -> Path | PureWindowsPath | Location:
    """What can be taken apart and joined: a `Path` for a file, a `Location` for an object of S3 or of the web.

    Relative paths stay so. A path of Windows, with a drive and a root or of a share, is a `PureWindowsPath` here, where
    it can be looked at and not opened. Raises `InvalidURI` where `parse` does.
    """
    if isinstance(name, Path | PureWindowsPath):
        return name
    if not isinstance(name, Location):
        text = as_string(name)
        if _WINDOWS.match(text):
            return PureWindowsPath(text)
        location = parse(name)
        if location.scheme == "file" and _SCHEME.match(text) is None:
            return Path(text)
        name = location
    return Path(name.key) if name.scheme == "file" else name


def as_string(name: str | os.PathLike[str] | Location) -> str:
    """The text of a name, which `parse` and `as_pathlike` read as the same: a URI for a `Location`, a path for a path.

    Raises `InvalidURI` for what is neither.
    """
    if isinstance(name, Location):
        return str(name)
    try:
        text = os.fspath(name)
    except TypeError:
        raise InvalidURI(repr(name), "it is neither text nor a path") from None
    if isinstance(text, bytes):
        raise InvalidURI(repr(text), "a path in bytes is not supported", remedy="Pass it through os.fsdecode first.")
    return text


_Named = TypeVar("_Named", str, Path, PureWindowsPath, Location)


def join_any(base: _Named, *parts: str | PurePath) -> _Named:
    """Puts names behind a prefix, a bucket, a URL or a directory, and gives what the base is: text, path or `Location`.

    One separator comes between, unless the base ends with one. Nothing of a name is lost or read as more than a name:
    keys of S3 stay raw, in URLs and file URIs what means something there is percent-encoded, and paths of Windows are
    joined by their own rules. Raises `InvalidURI` for a part of a path that is absolute and would replace the base, and
    for a base behind which nothing can stand: a version, a query.
    """
    texts = [as_string(part) for part in parts]
    if not isinstance(base, str):
        if isinstance(base, Location):
            return _join_location(base, texts)
        return base.joinpath(*(_relative(text, type(base)) for text in texts))
    if _WINDOWS.match(base):
        return str(PureWindowsPath(base).joinpath(*(_relative(text, PureWindowsPath) for text in texts)))
    if _SCHEME.match(base):
        return str(_join_location(parse(base), texts))
    for text in texts:
        base = _after_slash(base, _relative(text, Path))
    return base


def _scheme_of(value: object) -> str | None:
    """The scheme of what names an object, `file` for paths; None for what names nothing."""
    if isinstance(value, Location):
        return value.scheme
    if not isinstance(value, str | os.PathLike):
        return None
    try:
        return parse(value).scheme
    except InvalidURI:
        return None


def _join_location(base: Location, texts: list[str]) -> Location:
    if base.version is not None or (base.scheme in ("http", "https") and "?" in base.key):
        raise InvalidURI(str(base), "nothing can be joined behind a version or a query")
    key = base.key
    for text in texts:
        if base.scheme == "file":
            text = _relative(text, Path)
        elif base.scheme != "s3":
            text = quote(text, safe="/~")
        key = text if base.scheme == "s3" and not key else _after_slash(key, text)
    joined = base._replace(key=key)
    if base.scheme == "s3":
        _check_s3(joined.container, joined.key, joined.version, str(joined))
    return joined


def _after_slash(base: str, text: str) -> str:
    return f"{base}{'' if not base or base.endswith('/') else '/'}{text}"


def _relative(text: str, kind: type[PurePath]) -> str:
    path = kind(text)
    if path.is_absolute() or path.anchor:
        raise InvalidURI(text, "it is absolute, and would replace what it is joined to")
    return text


def _parse_s3(text: str) -> Location:
    rest = text[5:]
    if rest.startswith("arn:") and (arn := _ARN.match(rest)) is not None:
        bucket, key = arn[0], rest[arn.end() + 1 :]
    else:
        bucket, _, key = rest.partition("/")
    version = None
    if _VERSION in key:
        key, found = _split_version(key)
        version = found or None
    _check_s3(bucket, key, version, text)
    return Location("s3", bucket, key, version)


def _split_version(key: str) -> tuple[str, str]:
    """Splits `?versionId=…` from the end of a key; a tail that no version id can be belongs to the key."""
    head, mark, tail = key.rpartition(_VERSION)
    if mark and _VERSION_ID.match(tail):
        return head, tail
    return key, ""


def _check_s3(bucket: str, key: str, version: str | None, text: str) -> None:
    if not bucket:
        raise InvalidURI(text, "it names no bucket", remedy="Write s3://bucket/key.")
    if bucket.startswith("arn:"):
        _check_arn(bucket, text)
    elif not _BUCKET.match(bucket):
        raise InvalidURI(ascii(text), f"{bucket!r} cannot be a bucket's name")
    if version is not None and not _VERSION_ID.match(version):
        raise InvalidURI(text, f"{version!r} cannot be a version id")
    try:
        encoded = key.encode()
    except UnicodeEncodeError:
        raise InvalidURI(ascii(text), "the key is not valid Unicode", remedy="Keys of S3 are UTF-8.") from None
    if len(encoded) > MAX_KEY_BYTES:
        raise InvalidURI(text, f"the key has {len(encoded)} bytes; S3 allows {MAX_KEY_BYTES}")


def _check_arn(arn: str, text: str) -> None:
    found = _ARN.match(arn)
    if found is not None and found.end() == len(arn):
        return
    if re.match(r"arn:aws[a-z-]*:s3:::", arn):
        raise InvalidURI(ascii(text), "a bucket goes by its name, not by its ARN", remedy="Write s3://bucket/key.")
    raise InvalidURI(
        ascii(text),
        "its ARN is not that of an access point",
        remedy="Such are arn:aws:s3:us-west-2:123456789012:accesspoint/name and "
        "arn:aws:s3::123456789012:accesspoint/alias.mrap.",
    )


def _file(path: str, text: str) -> Location:
    if not path:
        raise InvalidURI(text or "''", "it is empty")
    if "\0" in path:
        raise InvalidURI(ascii(text), "a path cannot contain NUL")
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        raise InvalidURI(ascii(text), "it cannot be the name of a file here") from None
    if not path.startswith("/"):
        path = os.path.abspath(path)  # noqa: PTH100 (links stay links)
    return Location("file", "", path)
