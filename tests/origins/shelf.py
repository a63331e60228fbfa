"""A bucket that the control plane writes to, and what a test sees of it by another way."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

from asyncfetch.uris import Location, s3
from tests.servers import s3_client

if TYPE_CHECKING:
    from tests.servers import Server


class Shelf:
    """A new bucket on a server, to look into behind the control plane's back."""

    def __init__(self, server: Server) -> None:
        self.client: Any = s3_client(server)
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        self.client.create_bucket(Bucket=self.name)

    def at(self, key: str) -> Location:
        return s3(self.name, key)

    def body(self, key: str) -> bytes:
        body: bytes = self.client.get_object(Bucket=self.name, Key=key)["Body"].read()
        return body

    def keys(self) -> list[str]:
        return [found["Key"] for found in self.client.list_objects_v2(Bucket=self.name).get("Contents", ())]

    def uploads(self) -> list[str]:
        try:
            answer = self.client.list_multipart_uploads(Bucket=self.name)
        except self.client.exceptions.NoSuchUpload:  # how rclone says that there is none
            return []
        return [found["Key"] for found in answer.get("Uploads", ())]
