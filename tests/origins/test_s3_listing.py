"""The native S3 origin: listings, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from asyncfetch.errors import (
    BucketNotFound,
    TransferInterrupted,
)
from asyncfetch.testing import RawRequest, ScriptedServer, answer
from tests.origins.scripts import OBJECT, listed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from asyncfetch.origins.s3 import S3Origin
    from asyncfetch.testing.scripted import Answer

pytestmark = pytest.mark.usefixtures("signed")


def page(keys: Iterable[str], more: str = "<IsTruncated>false</IsTruncated>") -> bytes:
    entries = "".join(f"<Contents><Key>{key}</Key><Size>1</Size></Contents>" for key in keys)
    return answer(f"<ListBucketResult>{more}{entries}</ListBucketResult>".encode())


async def test_a_listing_goes_from_page_to_page(native: Callable[..., S3Origin]) -> None:
    more = "<IsTruncated>true</IsTruncated><NextContinuationToken>t+/=</NextContinuationToken>"
    encoded = "<IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>"
    async with ScriptedServer([page(["a"], more), page(["b%2Bc+%C3%BC"], encoded)]) as server:
        assert [stat.uri for stat in await listed(native(server.url))] == ["s3://bucket/a", "s3://bucket/b+c ü"]
        assert [request.target for request in server.requests] == [
            "/bucket?encoding-type=url&list-type=2&prefix=key",
            "/bucket?continuation-token=t%2B%2F%3D&encoding-type=url&list-type=2&prefix=key",
        ]
        assert server.connections == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<ListBucketResult>",
        b"<!DOCTYPE x [<!ENTITY e 'x'>]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"\xff",
    ],
)
async def test_a_page_that_is_none_is_an_error(native: Callable[..., S3Origin], body: bytes) -> None:
    async with ScriptedServer([answer(body)]) as server:
        with pytest.raises(TransferInterrupted, match="cannot be read") as caught:
            await listed(native(server.url))
        assert caught.value.uri == str(OBJECT)


@pytest.mark.parametrize("length", [1, 2, 7])
async def test_a_listing_that_turns_in_a_circle_ends(native: Callable[..., S3Origin], length: int) -> None:
    def answers(request: RawRequest) -> Answer:
        told = len(server.requests) % length
        return page([], f"<IsTruncated>true</IsTruncated><NextContinuationToken>{told}</NextContinuationToken>")

    async with ScriptedServer(answers) as server:
        with pytest.raises(TransferInterrupted, match="circle"):
            await listed(native(server.url))
        assert len(server.requests) < 40


async def test_a_refused_listing_is_of_the_bucket(native: Callable[..., S3Origin]) -> None:
    async with ScriptedServer([answer(b"<html>" * 100_000, status="404 Not Found")]) as server:
        with pytest.raises(BucketNotFound):
            await listed(native(server.url))
