"""Objects to fetch: a bucket of one's own on an S3 server, photographs in it, and directories of files."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from tests.servers import put_object, s3_client

if TYPE_CHECKING:
    from collections.abc import Mapping

    from asyncfetch.testing import EmbeddedS3


class Bucket:
    """A new bucket on a server."""

    def __init__(self, server: EmbeddedS3, objects: Mapping[str, bytes] | None = None) -> None:
        self.server = server
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.client = s3_client(server)
        self.client.create_bucket(Bucket=self.name)
        for key, body in (objects or {}).items():
            self.put(key, body)

    def put(self, key: str, body: bytes) -> str:
        """Stores an object and returns its URI."""
        put_object(self.server, self.name, key, body)
        return self.uri(key)

    def uri(self, key: str = "") -> str:
        """An object's URI."""
        return f"s3://{self.name}/{key}"

    def requests(self, method: str = "GET") -> int:
        """How many requests for objects of this bucket its server has answered, listings not counted."""
        return sum(
            count
            for seen, count in self.server.requests().items()
            if seen.method == method and seen.path.startswith(f"/{self.name}/") and seen.path != f"/{self.name}/"
        )

    def bodies(self) -> int:
        """How many of the answers had the whole object in them."""
        return sum(
            count
            for seen, count in self.server.requests().items()
            if seen.method == "GET"
            and seen.status == 200
            and seen.path.startswith(f"/{self.name}/")
            and seen.path != f"/{self.name}/"
        )
