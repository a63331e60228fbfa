"""Clients of aioboto3, made as settings say: one for each service and way of access, and closed together."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from io import BytesIO
from typing import TYPE_CHECKING, Any

from asyncfetch.origins.boto_errors import translated
from asyncfetch.origins.boto_models import share_models
from asyncfetch.origins.endpoints import check_private, endpoint_of, rule_options, warn_if_exposed
from asyncfetch.origins.identities import SharedProvider

if TYPE_CHECKING:
    from asyncfetch.origins.credentials import CredentialSource
    from asyncfetch.origins.identities import Identities
    from asyncfetch.settings import Access, NetworkPolicy

_SMALL = 1 << 20  # bytes


class BotoClients:
    """Makes a client with its first use; what aioboto3 takes long to load is loaded in a thread.

    `attempts` are the tries that botocore makes of a request, in its mode `standard`: after time-outs, broken
    connections, throttling and 5xx, with a wait of up to 20 s that doubles, and fewer while most of them fail.
    """

    def __init__(self, network: NetworkPolicy, identities: Identities, *, attempts: int = 1) -> None:
        self._network = network
        self._identities = identities
        self._attempts = attempts
        self._clients: dict[tuple[str, Access], asyncio.Task[Any]] = {}
        self._open = AsyncExitStack()
        self.requests = 0  # sent so far, each try for itself

    async def get(self, access: Access, uri: str, *, service: str = "s3") -> Any:
        """The client for a way of access. `uri` is the object that errors shall name."""
        which = service, access
        making = self._clients.get(which)
        if making is None:
            making = self._clients[which] = asyncio.create_task(self._make(service, access))
            making.add_done_callback(lambda made: self._forget_failure(which, made))
        with translated(uri):
            client = await asyncio.shield(making)  # the first caller's leaving hurts no other
        if not access.anonymous:
            source = self._identities.of(access)
            _ = source.current() or await source.get(uri)  # here, where errors can name the object
        return client

    async def aclose(self) -> None:
        """Closes every connection. To be called when no call is under way any more."""
        for making in self._clients.values():
            making.cancel()
        if self._clients:
            await asyncio.wait(self._clients.values())
        await self._open.aclose()

    def _forget_failure(self, which: tuple[str, Access], made: asyncio.Task[Any]) -> None:
        if made.cancelled() or made.exception() is not None:
            self._clients.pop(which, None)

    def _count(self, **rest: Any) -> None:
        self.requests += 1

    async def _make(self, service: str, access: Access) -> Any:
        # Importing aioboto3 and reading its models blocks for 0.3 s.
        source = None if access.anonymous else self._identities.of(access)
        session, options = await asyncio.to_thread(_load, service, access, source, self._network, self._attempts)
        async with AsyncExitStack() as made:
            client = await made.enter_async_context(session.client(service, **options))
            if service == "s3" and access.customer_key is not None:
                await asyncio.to_thread(check_private, endpoint_of(client.meta.endpoint_url))
            if not access.anonymous:
                warn_if_exposed(client.meta.endpoint_url)
            self._open.push_async_exit(made.pop_all())
        # To learn a region botocore asks for the bucket, and where that is redirected too it would ask again for ever.
        client.meta.events.register("before-call.s3.HeadBucket", _redirect_no_more)
        client.meta.events.register("request-created.s3", _send_small_bodies_at_once)
        client.meta.events.register("before-send", self._count)
        return client


def _load(
    service: str, access: Access, source: CredentialSource | None, network: NetworkPolicy, attempts: int
) -> tuple[Any, dict[str, Any]]:
    """A session with everything read that a client is made from, and the client's options. Runs in a thread."""
    import aioboto3
    import aioboto3.s3.inject  # the hook of the client's class imports it
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from botocore import UNSIGNED

    from asyncfetch.origins.boto_transport import CountedSession, StayingSession

    core = AioSession(profile=access.profile)
    if source is not None:
        core.register_component("credential_provider", SharedProvider(source))
    session = aioboto3.Session(botocore_session=core)
    models = share_models(core)
    for name in ("partitions", "endpoints", "sdk-default-configuration"):
        models.load_data(name)
    for name in ("service-2", "endpoint-rule-set-1"):
        models.load_service_model(service, name)
    options = rule_options(access) | {
        "connect_timeout": network.connect_timeout,
        "read_timeout": network.read_timeout,
        "max_pool_connections": network.connections,
        "http_session_cls": CountedSession if attempts > 1 else StayingSession,
        "retries": {"total_max_attempts": attempts, "mode": "standard"},
        # A checksum asked for cannot be checked on a range, and most servers do not know them.
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
    }
    if access.anonymous:
        options["signature_version"] = UNSIGNED
    # `Access` names an endpoint of S3. Where other services are, variables and profile say: AWS_ENDPOINT_URL_STS.
    endpoint = access.endpoint if service == "s3" else None
    plain = (endpoint or "https:").startswith("http:")
    if not plain:
        # TLS guards a body already, and botocore would read all of it on the loop for a SHA-256.
        options["s3"] = options.get("s3", {}) | {"payload_signing_enabled": False}
    region = access.region
    if region is None and service != "s3" and session.region_name is None:
        region = "us-east-1"  # without one S3 is asked there as well, and others not at all
    made = {"region_name": region, "endpoint_url": endpoint, "config": AioConfig(**options)}
    if plain:
        made["verify"] = False  # there is no TLS to verify, and to read all certificates takes 30 ms
    return session, made


def _redirect_no_more(context: dict[str, Any], **rest: Any) -> None:
    context.setdefault("s3_redirect", {})["redirected"] = True


def _send_small_bodies_at_once(request: Any, **rest: Any) -> None:
    # To wait for "100 Continue" costs a round trip, which pays for large bodies alone; botocore makes files of all.
    if isinstance(request.data, BytesIO) and request.data.getbuffer().nbytes <= _SMALL:
        del request.headers["Expect"]
