"""An unsigned request for a bucket: its answer, also a refusal, tells the endpoint's clock and the bucket's region."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, NamedTuple

from asyncfetch import http
from asyncfetch.origins.answers import Question, ask
from asyncfetch.origins.endpoints import NotNative, environment_region, resolve
from asyncfetch.origins.headers import USER_AGENT, read_date
from asyncfetch.origins.signing import Signer

if TYPE_CHECKING:
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Settings
    from asyncfetch.uris import Location


class Greeting(NamedTuple):
    """What came back, `seconds` after it was asked for."""

    host: str
    seconds: float
    skew: float | None  # seconds that this clock is ahead of the server's, None where that told no time
    region: str | None  # the bucket's, as the server says
    asked_region: str | None  # what is configured


async def greet(settings: Settings, identities: Identities, location: Location) -> Greeting | NotNative:
    """Asks for a location's bucket by HEAD. Gives why not where only the reference origin can go there.

    Raises what reaching an endpoint raises; that the bucket is closed, missing or elsewhere is an answer like another.
    """
    uri, access, network = str(location), settings.access_for(location.container), settings.network
    region = access.region or environment_region()
    if region is None:
        region = await identities.of(access).region(uri)
    reached = await asyncio.to_thread(resolve, location.container, access, region)
    if isinstance(reached, NotNative):
        return reached
    client = http.Client(connect_timeout=network.connect_timeout, read_timeout=network.read_timeout)
    try:
        question = Question(uri, "HEAD")
        before, began = time.time(), time.perf_counter()
        response = await ask(
            client, reached.endpoint, question, _Unsigned(Signer(reached.target, user_agent=USER_AGENT))
        )
        seconds = time.perf_counter() - began
    finally:
        await client.aclose()
    told = read_date(response.head.get("date"))
    # A Date has whole seconds: on average it is half of one behind the moment it was written.
    skew = None if told is None else before + seconds / 2 - (told.timestamp() + 0.5)
    return Greeting(reached.target.host, seconds, skew, response.head.get("x-amz-bucket-region"), region)


class _Unsigned:
    def __init__(self, signer: Signer) -> None:
        self._signer = signer

    def write(self, question: Question) -> bytes:
        """The request, as the client asks for it when it is sent."""
        return self._signer.head(question.method, "", credentials=None, now=0.0)
