"""Credentials that another lends, such as a boto3 session, in the form that aiobotocore has its own in."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from asyncfetch.settings import Lender


class LentCredentials:
    """What a lender has, asked on a thread: it may have to refresh them, which waits for the network."""

    def __init__(self, found: Any) -> None:
        self._found = found  # botocore's, which has no types

    @property
    def method(self) -> str:
        """How they were come by, which botocore tells S3 in the name of its user agent."""
        return str(getattr(self._found, "method", "lent"))

    @property
    def refresh_needed(self) -> Callable[[int], bool] | None:
        """Whether less than so many seconds are left of them; None for those that last."""
        return getattr(self._found, "refresh_needed", None)

    def get_deferred_property(self, name: str) -> Callable[[], Any]:
        """What gives a property when it is called: how botocore asks for the account's id."""
        return partial(getattr, self._found, name, None)

    async def get_account_id(self) -> str | None:
        """The account's id, where the lender knows it."""
        account_id: str | None = getattr(self._found, "account_id", None)
        return account_id

    async def get_frozen_credentials(self) -> Any:
        """Access key, secret key and token of now."""
        return await asyncio.to_thread(self._found.get_frozen_credentials)


class LenderProvider:
    """Stands in the place of botocore's chain of providers."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender

    async def load_credentials(self) -> LentCredentials | None:
        """The lender's credentials, or None where it has none."""
        found = await asyncio.to_thread(self._lender.get_credentials)
        return None if found is None else LentCredentials(found)
