"""Configuration: a few frozen groups, picklable, checked when they are made."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from asyncfetch.checks import check_count, check_flags, check_group, check_seconds, check_texts, count_of
from asyncfetch.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30

Revalidate = Literal["once", "always", "never"] | float
Addressing = Literal["auto", "path", "virtual"]
Digest = Literal["blake3", "sha256"]
Verify = Literal["size", "first", "always"]

_SKEW_SECONDS = 86_400.0  # clocks of machines differ; by more than a day, it is a number of something else

_SIZE = re.compile(r"\s*(\d{1,18})(?:\.(\d{1,18}))?\s*(?:([kmgt])(i)?)?b?\s*\Z", re.IGNORECASE | re.ASCII)

_DURATION = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([smhdw])\s*\Z", re.IGNORECASE | re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_size(value: int | str, *, name: str = "size") -> int:
    """Reads bytes from a number or from text such as `"512MiB"`, `"1.5 GB"`, `"64k"`; a unit without `i` is decimal.

    What is left of a byte is dropped. Raises `UsageError` for anything else and for less than one byte.
    """
    if isinstance(value, str):
        found = _SIZE.match(value)
        if found is None:
            raise UsageError(f"{name} {value!r} is not a size", remedy="Write bytes, or such as '512MiB' or '2GB'.")
        whole, part, unit, binary = found.groups(default="")
        factor: int = (1024 if binary else 1000) ** " kmgt".index(unit.lower() or " ")
        size: int = int(whole + part) * factor // 10 ** len(part)  # in whole numbers: floats lose bytes
    elif (number := count_of(value)) is not None:
        size = number
    else:
        raise UsageError(f"{name} must be bytes as a number, or text such as '512MiB', not {value!r}")
    if size < 1:
        raise UsageError(f"{name} must be at least one byte, not {value}")
    return size


def parse_duration(text: str, *, name: str = "duration") -> float:
    """Reads seconds from text such as `"30m"`, `"12h"`, `"7d"`; a number needs its unit. Raises `UsageError`."""
    found = _DURATION.match(text)
    if found is None:
        raise UsageError(f"{name} {text!r} is not a duration", remedy="Write such as 45s, 30m, 12h, 7d or 2w.")
    return float(found[1]) * _SECONDS[found[2].lower()]


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Lender(Protocol):
    """Whoever has credentials to lend: a session of boto3 or botocore. Asked on a thread, each time they run out."""

    def get_credentials(self) -> Any:
        """Credentials as botocore has them, with `get_frozen_credentials()`, or None where there are none."""
        ...


@dataclass(frozen=True, kw_only=True)
class Access:
    """How a bucket is reached. What is None is left to the standard AWS variables and profile.

    `addressing` is `"virtual"` (bucket in the host name), `"path"`, or `"auto"`: path for a custom endpoint or a bucket
    name with dots, else virtual. `dual_stack` (IPv4 and IPv6), `fips` and `accelerate` choose among AWS's own
    endpoints; None leaves it to `AWS_USE_DUALSTACK_ENDPOINT`, `AWS_USE_FIPS_ENDPOINT` and the profile.

    `customer_key` is the key of objects that S3 encrypted with one of the customer's own (SSE-C), in 32 bytes. It goes
    with every read, over TLS or to this machine only, and no `repr` shows it; a pickle of the settings holds it, and
    the cache keeps what it opened.

    `credentials` signs with those of another, such as a `boto3.Session`, instead of the standard chain's. It goes into
    no pickle of the settings that its owner does not allow (boto3's cannot be pickled), and no `repr` shows it.
    """

    endpoint_url: str | None = None
    region: str | None = None
    profile: str | None = None
    anonymous: bool = False
    requester_pays: bool = False
    addressing: Addressing = "auto"
    dual_stack: bool | None = None
    fips: bool | None = None
    accelerate: bool | None = None
    customer_key: bytes | None = field(default=None, repr=False)
    credentials: Lender | None = field(default=None, repr=False)
    origin: Literal["native", "boto"] = "native"

    def __post_init__(self) -> None:
        check_texts(self, "endpoint_url", "region", "profile")
        check_flags(self, "anonymous", "requester_pays")
        if self.endpoint_url is not None and not re.match(r"https?://[^/\s]", self.endpoint_url):
            raise UsageError(
                f"endpoint_url {self.endpoint_url!r} is not a URL",
                remedy="Write it such as https://storage.example.com.",
            )
        if self.origin not in ("native", "boto"):
            raise UsageError(f"origin must be 'native' or 'boto', not {self.origin!r}")
        if self.customer_key is not None and (type(self.customer_key) is not bytes or len(self.customer_key) != 32):
            raise UsageError("customer_key must be 32 bytes, the length of a key for AES-256")
        if self.credentials is not None and not hasattr(self.credentials, "get_credentials"):
            raise UsageError(
                "credentials must be a session of boto3, or another object with get_credentials()",
                remedy="asyncfetch.blocking.access_of(client) makes an Access of a client.",
            )
        if self.addressing not in ("auto", "path", "virtual"):
            raise UsageError(f"addressing must be 'auto', 'path' or 'virtual', not {self.addressing!r}")

    @property
    def endpoint(self) -> str | None:
        """The endpoint in force: the one given here, else by the environment, else None for AWS itself."""
        names = ["ASYNCFETCH_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]
        if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":  # as botocore reads it
            del names[1:]
        return self.endpoint_url or next((os.environ[name] for name in names if os.environ.get(name)), None)


@dataclass(frozen=True, kw_only=True)
class CachePolicy:
    """Where blobs are kept and how far they are trusted.

    `cache_dir` None is `ASYNCFETCH_CACHE_DIR`, else the platform's cache directory. `revalidate` says when a cached
    object is checked against its origin by a conditional GET: `"once"` a job, `"always"`, `"never"`, or when the last
    check is older than so many seconds.

    `max_bytes` is the most that blobs may take on the disk, `min_free` what they leave free there for others; both are
    bytes or text such as `"200GiB"`, and None is no limit. Blobs that no running job has used give way, the least
    recently used first; an object for which there is no room then is served and not kept.

    `verify` says when the digest of a cached object is computed anew before it is served: `"size"` leaves it at a look
    at its size, `"first"` does it at the first hit of this process, `"always"` at each. Whatever it says, it is done
    for blobs that may have suffered from a loss of power, when they are first read.

    `offline` serves what is there, whatever its age, and raises `NotInCache` for the rest; no request is sent. With
    `stale_if_error` a cached object that cannot be checked is served where its origin cannot be reached, does not
    answer in time or answers 5xx (RFC 5861, section 4); that it is gone (404) or refused (403) is raised all the same.

    An `ephemeral` cache is a new directory below `cache_dir`, or below the system's temporary directory where that is
    None, and is removed when it is closed; one whose owner was killed goes when the next is made there.

    A `read_only` cache must be there, and is never written: what it does not have is kept in an ephemeral one over it.
    One that cannot be written is taken so without being told where its medium is read only, or it was closed for that.
    """

    cache_dir: str | os.PathLike[str] | None = None
    revalidate: Revalidate = "once"
    digest: Digest = "blake3"
    max_bytes: int | str | None = None
    min_free: int | str | None = None
    offline: bool = False
    stale_if_error: bool = False
    ephemeral: bool = False
    read_only: bool = False
    verify: Verify = "size"

    def __post_init__(self) -> None:
        _ = self.limits
        if self.cache_dir is not None and not isinstance(self.cache_dir, str | os.PathLike):
            raise UsageError(f"cache_dir must be text or a path, not {self.cache_dir!r}")
        check_flags(self, "offline", "stale_if_error", "ephemeral", "read_only")
        if self.digest not in ("blake3", "sha256"):
            raise UsageError(f"digest must be 'blake3' or 'sha256', not {self.digest!r}")
        if self.verify not in ("size", "first", "always"):
            raise UsageError(f"verify must be 'size', 'first' or 'always', not {self.verify!r}")
        if self.ephemeral and self.read_only:
            raise UsageError("a cache cannot be ephemeral and read_only")
        if isinstance(self.revalidate, bool) or not (
            self.revalidate in ("once", "always", "never")
            if isinstance(self.revalidate, str)
            else isinstance(self.revalidate, int | float) and self.revalidate >= 0
        ):
            raise UsageError(f"revalidate must be 'once', 'always', 'never' or seconds, not {self.revalidate!r}")

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """`max_bytes` and `min_free` in bytes. Raises `UsageError` when they are no sizes."""
        return (
            None if self.max_bytes is None else parse_size(self.max_bytes, name="max_bytes"),
            None if self.min_free is None else parse_size(self.min_free, name="min_free"),
        )

    @property
    def directory(self) -> Path:
        """The directory in force, absolute."""
        chosen = self.cache_dir or os.environ.get("ASYNCFETCH_CACHE_DIR")
        if chosen:
            return Path(chosen).expanduser().absolute()
        import platformdirs

        return platformdirs.user_cache_path("asyncfetch")


@dataclass(frozen=True, kw_only=True)
class NetworkPolicy:
    """How the network is used. Times are in seconds.

    `concurrency` is the number of objects read at once, at most: how many one bucket or host is asked for follows from
    what it brings and allows. Where `adaptive` is off it is always as many, as those want it who measure what just so
    many bring; a bucket that refuses is then still asked less often.

    `connect_timeout` bounds the making of a connection, `first_byte_timeout` the wait for an answer to begin (None:
    `read_timeout`), `read_timeout` any silence within one. An answer that has begun and of which less than
    `stall_bytes` come in `stall_window` is given up as well; 0 bytes turns that off. What is read by way of aioboto3
    has the first and the third only.

    `attempts` are the tries an object gets before its error stands, `deadline` how long it may take from its first try
    on, with all its tries. Where a bucket or host that has answered before answers nobody any more, tries do not count
    for up to `patience`: it is asked now and then until it is back.

    `hedge` has a read whose answer is later than 95 in 100 others, and than 50 ms, sent a second time; the first answer
    to begin counts, and the other request is stopped. At most 2 in 100 requests are such.

    An object of `parts_from` bytes or more is read in parts of `part_size` bytes, several at once where the network
    would idle otherwise, and goes on from where it was when a connection breaks; `parts_from` None leaves every object
    to one connection.

    `checksums` has whole objects held against the checksum that S3 keeps of them (CRC32, SHA1, SHA256, and with the
    extra `checksums` CRC32C and CRC64NVME); `md5` against the ETag where that is one and no checksum is there. What
    does not fit is fetched again, and in the end an `IntegrityError`.
    """

    concurrency: int = 64
    adaptive: bool = True
    connect_timeout: float = 10.0
    first_byte_timeout: float | None = None
    read_timeout: float = 60.0
    # 64 connections that share a line of 64 kbit/s still have 125 bytes/s each.
    stall_bytes: int = 2 * KIB
    stall_window: float = 30.0
    attempts: int = 5
    deadline: float | None = None
    patience: float = 300.0
    hedge: bool = True
    parts_from: int | None = 16 * MIB
    part_size: int = 8 * MIB  # what AWS's own transfer managers take; ten round trips' worth at 85 MB/s and 10 ms
    checksums: bool = False
    md5: bool = False

    def __post_init__(self) -> None:
        check_flags(self, "adaptive", "hedge", "checksums", "md5")
        check_count(self, "concurrency", 1, 10_000)
        check_count(self, "attempts", 1, 100)
        check_count(self, "part_size", 1 * KIB, GIB)
        if self.parts_from is not None:
            check_count(self, "parts_from", 1, 1 << 60)
        check_seconds(self.connect_timeout, "connect_timeout")
        check_seconds(self.read_timeout, "read_timeout")
        check_seconds(self.stall_window, "stall_window")
        check_count(self, "stall_bytes", 0, GIB)
        if self.first_byte_timeout is not None:
            check_seconds(self.first_byte_timeout, "first_byte_timeout")
        if self.deadline is not None:
            check_seconds(self.deadline, "deadline")
        if isinstance(self.patience, bool) or not isinstance(self.patience, int | float) or not self.patience >= 0:
            raise UsageError(f"patience must be seconds, 0 or more, not {self.patience!r}")

    @property
    def connections(self) -> int:
        """The most connections to one server: one for each object that is read, and some for second requests."""
        return self.concurrency + (max(2, self.concurrency // 16) if self.hedge else 0)


@dataclass(frozen=True, kw_only=True)
class DecodePolicy:
    """How images are decoded. `workers` None is one for each core this process may use.

    An image of more than `max_pixels` is refused by its header, before memory is taken for it. One that takes longer
    than `timeout` seconds, reading included, has its worker killed and replaced. A worker gets no more than
    `worker_memory` bytes beside the pixels that it hands over: an image that will take more is refused by its header,
    and on Linux the system holds to it as well (RLIMIT_DATA). Nor may what a function of the user's gives have more.
    """

    workers: int | None = None
    max_pixels: int = 1 << 28  # 16,384 x 16,384, above the scans of 200 megapixels that are usual
    timeout: float = 60.0  # JPEG 2000, the slowest, takes some 30 seconds for 200 megapixels
    worker_memory: int = 5 * GIB  # what 200 megapixels of the greediest decoder, that of AVIF, may take

    def __post_init__(self) -> None:
        check_count(self, "max_pixels", 1, 1 << 40)
        check_count(self, "worker_memory", 64 * MIB, 1 << 50)
        check_seconds(self.timeout, "timeout")
        if self.workers is not None:
            check_count(self, "workers", 1, 1_000)

    @property
    def worker_count(self) -> int:
        """The number of workers in force."""
        return cores() if self.workers is None else self.workers


@dataclass(frozen=True, slots=True)
class Job:
    """One job: what `revalidate="once"` means by once. `started` is in seconds since 1970.

    Fetchers that share it check no object that one of them has checked. `str(job)`, `"<id>:<seconds>"`, is what
    `ASYNCFETCH_JOB` takes to give it to ranks and tasks of a cluster.
    """

    id: str
    started: float

    def __post_init__(self) -> None:
        if not (isinstance(self.id, str) and re.match(r"[A-Za-z0-9._-]{1,128}\Z", self.id)):
            raise UsageError(f"the id of a job must be 1 to 128 letters, digits or ._-, not {self.id!r}")
        if isinstance(self.started, bool) or not isinstance(self.started, int | float) or not self.started > 0:
            raise UsageError(f"the start of a job must be seconds since 1970, not {self.started!r}")
        if self.started > time.time() + _SKEW_SECONDS:
            raise UsageError(
                f"the start of a job must be seconds since 1970, but {self.started!r} is still to come",
                remedy="Milliseconds must be divided by 1,000.",
            )

    def __str__(self) -> str:
        return f"{self.id}:{self.started!r}"

    @classmethod
    def begin(cls) -> Job:
        """A new one, which starts now."""
        return cls(os.urandom(8).hex(), time.time())

    @classmethod
    def inherited(cls) -> Job | None:
        """The one that the environment gives. Raises `UsageError` when that is no job."""
        text = os.environ.get("ASYNCFETCH_JOB")
        if not text:
            return None
        id, _, started = text.rpartition(":")
        try:
            return cls(id, float(started))
        except ValueError as error:
            detail = error.message if isinstance(error, UsageError) else f"{started!r} is no number of seconds"
            raise UsageError(
                f"ASYNCFETCH_JOB {text!r}: {detail}",
                remedy="Write <id>:<seconds since 1970>, such as nightly-7:1700000000.",
            ) from None


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything a fetcher is made of, as one picklable value. `buckets` overrides `access` for those it names.

    `job` None is the one that `ASYNCFETCH_JOB` names, else a new one when a fetcher is opened.
    """

    access: Access = field(default_factory=Access)
    buckets: Mapping[str, Access] = field(default_factory=dict)
    cache: CachePolicy = field(default_factory=CachePolicy)
    network: NetworkPolicy = field(default_factory=NetworkPolicy)
    decode: DecodePolicy = field(default_factory=DecodePolicy)
    memory_budget: int = 512 * MIB
    job: Job | None = None

    def __post_init__(self) -> None:
        if self.job is not None and not isinstance(self.job, Job):
            raise UsageError(f"job must be a Job, not {self.job!r}")
        for name, kind in (
            ("access", Access),
            ("cache", CachePolicy),
            ("network", NetworkPolicy),
            ("decode", DecodePolicy),
        ):
            check_group(getattr(self, name), name, kind)
        for bucket, access in self.buckets.items():
            check_group(access, f"buckets[{bucket!r}]", Access)
        check_count(self, "memory_budget", 1, 1 << 60)

    @property
    def current_job(self) -> Job:
        """The job in force, or one that begins now. Raises `UsageError` when the environment names one wrongly."""
        return self.job or Job.inherited() or Job.begin()

    def access_for(self, bucket: str) -> Access:
        """How one bucket is reached."""
        return self.buckets.get(bucket, self.access)
