"""Who signs: credentials by aioboto3's standard chain, kept fresh ahead of need and handed out without waiting."""

from __future__ import annotations

import asyncio
import math
import os
import time
from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from asyncfetch.errors import (
    CredentialsError,
    EndpointUnreachable,
    ExpiredCredentials,
    FetcherClosed,
    InvalidCredentials,
    NoCredentials,
    OriginError,
    OriginTimeout,
    UsageError,
)
from asyncfetch.origins.boto_models import share_models
from asyncfetch.origins.lent import LenderProvider

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.settings import Lender

# Temporary credentials are renewed when so much of their life is left: inside the last 10 minutes, in which botocore
# fetches new ones whenever it is asked, and tells of a failure. Shorter lives are renewed at their half.
_AHEAD = 540.0
# How long a failure stands before the chain is asked again: every object of a job would run it otherwise.
_RETRY = 5.0
# aiobotocore leaves a credential_process running when it is cancelled, so closing lets one end by itself for so long.
_GRACE = 2.0
# Longer lives are looked at again in the middle (12 days; sessions of AWS last 36 hours at most).
_LONGEST = range(1 << 20)


@dataclass(frozen=True, slots=True)
class Credentials:
    """One identity, which never shows its secrets in a `repr` and is never pickled.

    Raises `UsageError` where a part has characters that a header cannot hold: often a line break from a file.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name, value in (("access key", self.access_key), ("session token", self.token or "")):
            if not (value.isascii() and value.isprintable()) or " " in value:
                raise UsageError(f"the {name} has a character other than printable ASCII", remedy=_LOOK)
        if not self.access_key or not self.secret_key:
            raise UsageError("the access key or the secret key is empty", remedy=_LOOK)
        if not self.secret_key.isprintable():
            raise UsageError("the secret key has a character that cannot be printed", remedy=_LOOK)

    def __reduce__(self) -> NoReturn:
        raise TypeError("credentials are not pickled; let the other side find its own")


class CredentialSource:
    """The credentials of one profile (None: of the environment), for the tasks of one loop.

    The chain is aioboto3's: environment, profile, SSO, assumed role, `credential_process`, container, instance. It runs
    once for all who wait, in a task of its own, and again in the background while what is in use is still good.
    Cancelling one who waits stops nothing for the others. aioboto3 is imported at first use, in a thread.

    A `lender` is asked instead of the chain, in a thread.

    `clock` gives the time in POSIX seconds.
    """

    def __init__(
        self, profile: str | None = None, *, lender: Lender | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._profile = profile
        self._lender = lender
        self._clock = clock
        self._session: Any = None  # aioboto3 has no types
        self._opening = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        # What is in use, until when it is good, and when the chain is to be asked next.
        self._credentials: Credentials | None = None
        self._expiry = -math.inf
        self._due = -math.inf
        self._method: str | None = None
        # What an origin called expired though it should have been good, and why the chain gave nothing when last asked.
        self._rejected: Credentials | None = None
        self._failure: _Failure | None = None

    def current(self) -> Credentials | None:
        """The credentials if they are at hand and good, without waiting; else None, and `get` is to be awaited.

        Starts their renewal in the background where it is due, so it must be called in the loop. Raises `FetcherClosed`
        after `aclose`.
        """
        if self._closed:
            raise FetcherClosed("the source of credentials is closed")
        now = self._clock()
        if now >= self._due:
            self._renew()
        return self._credentials if now < self._expiry else None

    async def get(self, uri: str) -> Credentials:
        """The credentials, awaited where needed. `uri` is the object that errors shall name.

        Raises `NoCredentials` when the chain finds none, `ExpiredCredentials` when what it finds is past its time or
        was invalidated, another `CredentialsError` when it is refused or unfit, `EndpointUnreachable` or
        `OriginTimeout` when the service that issues them is, `FetcherClosed` after `aclose`. A failure stands for
        5 seconds.
        """
        while (found := self.current()) is None:
            if self._task is None or self._task.done():
                assert self._failure is not None
                raise self._failure.error(uri)
            await asyncio.wait({self._task})
        return found

    @property
    def expiry(self) -> float:
        """Until when what `get` gave is good, in POSIX seconds: infinite where it lasts or nobody says."""
        return self._expiry

    @property
    def method(self) -> str | None:
        """By which link of the chain they were found, in botocore's word for it: `"env"`, `"assume-role"`."""
        return self._method

    async def region(self, uri: str) -> str | None:
        """The region that profile and environment (AWS_DEFAULT_REGION) name, or None.

        Raises `NoCredentials` for a profile that does not exist and `CredentialsError` for a file that cannot be read,
        naming `uri`.
        """
        try:
            region: str | None = (await self._opened()).region_name
        except Exception as error:
            failure = _explain(error, self._profile)
        else:
            return region
        raise failure.error(uri)

    def invalidate(self, credentials: Credentials) -> None:
        """Says that an origin called these credentials expired: whoever asks next waits for new ones.

        The chain is then asked from its beginning, files read again. Credentials that are no longer in use change
        nothing, so that many tasks can say so of the same ones and cause one renewal.
        """
        if credentials == self._credentials:
            self._drop()
            self._rejected = credentials

    async def aclose(self) -> None:
        """Ends a renewal under way, after letting it run for up to 2 seconds, and forgets the credentials.

        Whoever waits for them gets `FetcherClosed`.
        """
        self._closed = True
        if self._task is not None:
            try:
                await asyncio.wait({self._task}, timeout=_GRACE)
            finally:
                self._task.cancel()
            await asyncio.wait({self._task})
        self._drop()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a source of credentials is not pickled; make one on the other side")

    def _drop(self) -> None:
        self._credentials, self._session = None, None
        self._expiry = self._due = -math.inf

    def _renew(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._renewal(), name="asyncfetch: credentials")

    async def _renewal(self) -> None:
        try:
            credentials, life = await self._resolve()
        except Exception as error:
            self._failure = _explain(error, self._profile)
            self._session = None
            now = self._clock()
            left = self._expiry - now if self._credentials else 0.0
            self._due = now + max(left / 2, _RETRY)
        else:
            now = self._clock()
            self._credentials, self._rejected, self._failure = credentials, None, None
            self._expiry = now + life
            self._due = now + max(life - _AHEAD, life / 2)

    async def _resolve(self) -> tuple[Credentials, float]:
        anew = self._rejected is not None
        credentials, life = await self._ask()
        if credentials == self._rejected and not anew:  # they were invalidated while the chain gave them again
            self._session = None
            credentials, life = await self._ask()
        if credentials == self._rejected:
            raise _ExpiredError("S3 calls the credentials expired, and no others are found")
        return credentials, life

    async def _ask(self) -> tuple[Credentials, float]:
        """The credentials that the chain gives now, and for how many seconds they are good."""
        if self._lender is not None:
            found = await LenderProvider(self._lender).load_credentials()
        elif self._profile is None and (given := _in_environment()) is not None:
            self._method = "env"
            return given, math.inf
        else:
            found = await (await self._opened()).get_credentials()
        if found is None:
            raise _NothingFoundError
        self._method = getattr(found, "method", None)
        refresh_needed: Callable[[int], bool] | None = getattr(found, "refresh_needed", None)
        try:
            frozen = await found.get_frozen_credentials()
        except RuntimeError:  # what botocore raises for new ones that are as old
            if refresh_needed is not None and refresh_needed(0):
                raise _ExpiredError("the credentials are past their time, also after a refresh") from None
            raise
        life = math.inf
        if refresh_needed is not None:
            # botocore tells whether less than so many seconds are left, but not how many are.
            life = bisect_left(_LONGEST, True, key=refresh_needed) - 1.0
            if life <= 0:
                raise _ExpiredError("the credentials are past their time")
        return Credentials(frozen.access_key, frozen.secret_key, frozen.token or None), life

    async def _opened(self) -> Any:
        async with self._opening:
            if self._session is None:
                self._session = await asyncio.to_thread(_open, self._profile)
            return self._session


_LOOK = "Look for a line break or a blank at the end of the variable or of the line in the file it comes from."


class _NothingFoundError(Exception):
    pass


class _ExpiredError(Exception):
    pass


class _Failure(NamedTuple):
    """Why there are no credentials, from which everyone who waits gets an exception of its own."""

    kind: type[OriginError]
    detail: str
    remedy: str = ""
    code: str | None = None

    def error(self, uri: str) -> OriginError:
        return self.kind(uri, self.detail, remedy=self.remedy, code=self.code)


def _in_environment() -> Credentials | None:
    """The chain's first link, where it is all that is needed: keys in the environment, and no profile beside them.

    botocore would say the same, after it and aiohttp were loaded: 0.25 s of CPU, 20 MB, and 27,000 objects for every
    collection of garbage to look at.
    """
    values = os.environ
    if any(values.get(name) for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CREDENTIAL_EXPIRATION")):
        return None
    access_key, secret_key = values.get("AWS_ACCESS_KEY_ID"), values.get("AWS_SECRET_ACCESS_KEY")
    if not access_key or not secret_key:
        return None
    token = values.get("AWS_SECURITY_TOKEN") or values.get("AWS_SESSION_TOKEN") or None
    return Credentials(access_key, secret_key, token)


def _open(profile: str | None) -> Any:
    """A new session, its configuration read. Runs in a thread: the import alone takes 0.2 s."""
    import aioboto3
    from aiobotocore.session import AioSession

    core = AioSession(profile=profile)
    share_models(core)
    session = aioboto3.Session(botocore_session=core)
    _ = session.region_name
    return session


def _explain(error: Exception, profile: str | None) -> _Failure:
    """Only texts known to hold no secret go on, and no exception does: json's hold all that they could not read."""
    from botocore import exceptions as boto

    whose = f" for the profile {profile!r}" if profile else ""
    match error:
        case _NothingFoundError() | boto.NoCredentialsError():
            return _Failure(NoCredentials, f"no credentials were found{whose}")
        case boto.PartialCredentialsError():
            return _Failure(NoCredentials, f"{error.kwargs['cred_var']} is missing, its companion is set")
        case boto.ProfileNotFound():
            detail = f"there is no profile {error.kwargs['profile']!r}"
            return _Failure(NoCredentials, detail, "`aws configure list-profiles` shows those there are.")
        case boto.CredentialRetrievalError():
            detail = f"the provider {error.kwargs['provider']!r} gave no credentials{whose}"
            return _Failure(NoCredentials, detail, "A credential_process tells why when it is run by hand.")
        case _ExpiredError():
            return _Failure(ExpiredCredentials, str(error))
        case boto.SSOError() | boto.TokenRetrievalError():
            remedy = f"Run `aws sso login --profile {profile}`." if profile else ""
            return _Failure(ExpiredCredentials, "the single sign-on session has ended", remedy)
        case EOFError():  # of who was to enter a code
            detail = f"the role{whose} asks for a code, and there is no terminal to enter one at"
            return _Failure(NoCredentials, detail, "Start where there is one, or have a credential_process give them.")
        case boto.RefreshWithMFAUnsupportedError():
            return _Failure(ExpiredCredentials, f"the role{whose} asks for another code", "Start again and enter it.")
        case boto.ClientError():
            return _refused(error.operation_name, error.response.get("Error", {}).get("Code"))
        case boto.ConnectTimeoutError() | boto.ReadTimeoutError():
            return _Failure(OriginTimeout, f"the service that issues the credentials{whose} did not answer in time")
        case boto.ConnectionError() | boto.HTTPClientError():
            return _Failure(EndpointUnreachable, f"no connection to the service that issues the credentials{whose}")
        case boto.ConfigParseError() | boto.ConfigNotFound() | boto.InvalidConfigError():
            return _Failure(CredentialsError, f"the AWS configuration cannot be used: {error}")
        case UsageError():
            return _Failure(CredentialsError, error.message, error.remedy)
        case OSError():
            reason = error.strerror or type(error).__name__
            where = f" ({error.filename})" if error.filename else ""
            return _Failure(CredentialsError, f"no credentials could be had{whose}: {reason}{where}")
    return _Failure(CredentialsError, f"no credentials could be had{whose} ({type(error).__name__})")


def _refused(operation: str, code: str | None) -> _Failure:
    """What another service means that was to say who we are: STS, or single sign-on."""
    if operation in ("GetRoleCredentials", "CreateToken") or (code or "").startswith("Expired"):
        return _Failure(ExpiredCredentials, f"the credentials have expired ({operation})", code=code)
    return _Failure(InvalidCredentials, f"{operation} was refused ({code})", code=code)
