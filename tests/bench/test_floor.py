"""The floor's protocol, against S3's own signer and against a server that checks signatures."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
from blake3 import blake3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from bench import servers
from bench.floor import BUFFER, Channel, Floor, Signer
from bench.keep import Keep
from bench.names import ACCESS_KEY, BUCKET, REGION, SECRET_KEY

SIZES = (0, 1, 4096, 86_000, BUFFER - 500, BUFFER - 100, BUFFER - 1, BUFFER, BUFFER + 1, 2 * BUFFER, 3 << 20)


@pytest.fixture(scope="module", params=servers.available())
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    root, scratch = tmp_path_factory.mktemp("root"), tmp_path_factory.mktemp("scratch")
    (root / BUCKET).mkdir()
    for size in SIZES:
        (root / BUCKET / f"{size} bytes").write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
    certificate = servers.certificate(scratch)
    with servers.serve(request.param, root, scratch, certificate) as serving:
        yield SimpleNamespace(**serving._asdict(), root=root, authority=str(certificate.authority))  # type: ignore[misc]


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("at_once", [1, 4])
async def test_bodies_of_any_size_are_kept_whole(
    server: SimpleNamespace, tmp_path: Path, tls: bool, at_once: int
) -> None:
    reader = Floor(
        server.tls if tls else server.plain,
        BUCKET,
        server.authority if tls else None,
        (ACCESS_KEY, SECRET_KEY),
        at_once,
    )
    keys = [f"{size} bytes" for size in SIZES] * 2
    kept, errors = await reader.get(keys, Keep(str(tmp_path)))
    assert errors == []
    assert sorted(item.key for item in kept) == sorted(keys)
    for item in kept:
        body = (server.root / BUCKET / item.key).read_bytes()
        assert item.size == len(body)
        assert item.digest == blake3(body).hexdigest()
        assert item.path is not None
        assert Path(item.path).read_bytes() == body


async def test_a_body_that_is_dropped_is_counted(server: SimpleNamespace) -> None:
    reader = Floor(server.plain, BUCKET, None, (ACCESS_KEY, SECRET_KEY), 2)
    kept, errors = await reader.get([f"{size} bytes" for size in SIZES])
    assert not errors
    assert sum(item.size for item in kept) == sum(SIZES)
    assert {item.path for item in kept} == {None}


async def test_what_is_not_there_is_an_error_and_no_body(server: SimpleNamespace) -> None:
    reader = Floor(server.plain, BUCKET, None, (ACCESS_KEY, SECRET_KEY), 1)
    kept, errors = await reader.get(["nothing"])
    assert kept == []
    assert "404" in errors[0]


@pytest.mark.parametrize("step", [1, 7, 86_005, 10**9])
async def test_any_split_of_the_answer_gives_the_same_file(tmp_path: Path, step: int) -> None:
    body = bytes(range(256)) * 400
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nETag: x\r\n\r\n%b" % (len(body), body)
    channel = Channel(Keep(str(tmp_path)))
    channel.connection_made(SimpleNamespace(write=lambda data: None))  # type: ignore[arg-type]
    for _ in range(2):
        future = channel.get("key", b"")
        for start in range(0, len(answer), step):
            piece = answer[start : start + step]
            while piece:
                room = channel.get_buffer(-1)
                count = min(len(room), len(piece))
                room[:count] = piece[:count]
                channel.buffer_updated(count)
                piece = piece[count:]
        kept = await future
        assert kept.digest == blake3(body).hexdigest()


async def test_a_connection_that_ends_in_a_body_is_an_error() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n12345")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        kept, errors = await Floor(f"http://127.0.0.1:{port}", BUCKET, None, ("a", "b"), 1).get(["key"])
    assert kept == []
    assert "closed" in errors[0]


def test_requests_are_signed_as_botocore_signs_them(monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime(2025, 3, 14, 15, 9, 26, tzinfo=UTC)
    monkeypatch.setattr("time.gmtime", lambda: now.timetuple())
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *, remove_tzinfo=True: now)
    signer = Signer("127.0.0.1:9", ACCESS_KEY, SECRET_KEY)
    for path in ("/bench/a.jpg", "/bench/with%20space/%C3%BC.bin"):
        request = AWSRequest("GET", f"https://127.0.0.1:9{path}")
        request.context["client_config"] = Config(s3={"payload_signing_enabled": False})
        S3SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "s3", REGION).add_auth(request)
        fields = dict(line.split(": ", 1) for line in signer.get(path).decode().strip().split("\r\n")[1:])
        assert fields["authorization"] == request.headers["Authorization"]
