"""The commands of the toolbox that look, sign and count: doctor, presign and cost."""

from __future__ import annotations

import csv
import io
import json
import urllib.request
from typing import TYPE_CHECKING

import pytest

from tests.cli.terminal import asyncfetch, on_a_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.objects import Bucket


@pytest.fixture
def bucket(empty_bucket: Bucket, monkeypatch: pytest.MonkeyPatch, cache_dir: Path) -> Bucket:
    monkeypatch.setenv("ASYNCFETCH_CACHE_DIR", str(cache_dir))
    for index in range(3):
        empty_bucket.put(f"dir/{index}.txt", b"x" * 1000 * (index + 1))
    empty_bucket.put("top, with a comma.txt", b"hello")
    return empty_bucket


def test_the_doctor_finds_a_bucket_well(bucket: Bucket) -> None:
    done = asyncfetch("doctor", bucket.uri("dir/"), "--write")
    assert (done.code, done.err) == (0, "")
    lines = done.out.decode().splitlines()
    assert all(line.startswith(("ok ", "? ", "   ")) for line in lines)
    assert {"credentials", "list", "read", "write"} <= {line.split()[1] for line in lines if not line.startswith(" ")}
    assert asyncfetch("doctor", bucket.uri("dir/"), "--quiet").out == b""
    told = {
        light["name"]: light for light in json.loads(asyncfetch("doctor", bucket.uri("dir/"), "--json").out)["lights"]
    }
    assert 0 < told["speed"]["value"]["first_byte_seconds"] < told["speed"]["value"]["seconds"]


def test_the_doctor_has_colours_on_a_terminal_that_wants_them(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\x1b[32mok" in on_a_terminal("doctor", bucket.uri("dir/"))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in on_a_terminal("doctor", bucket.uri("dir/"))


def test_the_doctor_finds_what_is_missing(bucket: Bucket) -> None:
    done = asyncfetch("doctor", "s3://no-such-bucket-there/", "--quiet")
    assert done.code == 1
    assert b"FAILED list" in done.out
    told = json.loads(asyncfetch("doctor", "s3://no-such-bucket-there/", "--json").out)
    assert told["healthy"] is False
    assert {light["name"]: light["state"] for light in told["lights"]}["list"] == "red"


def test_the_doctor_prints_a_policy(bucket: Bucket) -> None:
    done = asyncfetch("doctor", bucket.uri("dir/"), "--policy", "read-write")
    assert done.code == 0
    policy = json.loads(done.out)
    assert [statement["Sid"] for statement in policy["Statement"]] == ["List", "Read", "Write"]
    default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "arn:aws:kms:x:1:key/k"}
    bucket.client.put_bucket_encryption(
        Bucket=bucket.name,
        ServerSideEncryptionConfiguration={"Rules": [{"ApplyServerSideEncryptionByDefault": default}]},
    )
    policy = json.loads(asyncfetch("doctor", bucket.uri("dir/"), "--policy", "read").out)
    assert policy["Statement"][-1]["Resource"] == ["arn:aws:kms:x:1:key/k"]


def test_urls_of_a_prefix_as_csv(bucket: Bucket) -> None:
    done = asyncfetch("presign", bucket.uri(), "--expires", "15m")
    assert (done.code, done.err) == (0, "")
    rows = list(csv.DictReader(io.StringIO(done.out.decode())))
    assert [row["uri"] for row in rows] == [
        *[bucket.uri(f"dir/{index}.txt") for index in range(3)],
        bucket.uri("top, with a comma.txt"),
    ]
    with urllib.request.urlopen(rows[-1]["url"]) as answer:
        assert answer.read() == b"hello"
    assert "X-Amz-Expires=900" in rows[0]["url"]


def test_a_key_with_a_line_break_is_one_field_of_the_csv(bucket: Bucket) -> None:
    bucket.put("odd/a\rb", b"x")
    done = asyncfetch("presign", bucket.uri("odd/"))
    [row] = csv.DictReader(io.StringIO(done.out.decode(), newline=""))
    assert row["uri"] == bucket.uri("odd/a\rb")


def test_urls_of_a_list_as_json(bucket: Bucket, tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text(f"uri,label\n{bucket.uri('dir/0.txt')},a\n{bucket.uri('not/there')},b\n")
    done = asyncfetch("presign", "--from", tmp_path / "list.csv", "--json", "--download-name", "a.txt")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["uri"] for row in rows] == [bucket.uri("dir/0.txt"), bucket.uri("not/there")]
    with urllib.request.urlopen(rows[0]["url"]) as answer:
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''a.txt"


def test_a_url_to_write_by(bucket: Bucket) -> None:
    done = asyncfetch("presign", "--from", "-", "--method", "put", "--json", given=f"{bucket.uri('new')}\n".encode())
    kind = {"Content-Type": "image/webp"}  # urllib would say that it is a form
    request = urllib.request.Request(json.loads(done.out)["url"], data=b"body", method="PUT", headers=kind)
    with urllib.request.urlopen(request):
        pass
    assert bucket.client.get_object(Bucket=bucket.name, Key="new")["Body"].read() == b"body"


def test_names_that_no_object_has_are_told(bucket: Bucket) -> None:
    done = asyncfetch("presign", "--from", "-", "--prefix", bucket.uri("dir/"), given=b"0.txt\nmissing.txt\n")
    assert done.code == 1
    assert len(done.out.splitlines()) == 2
    assert "missing.txt: no object has this name" in done.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["presign", "s3://{bucket}/", "--expires", "8d"], 2, "7 days"),
        (["presign", "s3://{bucket}/", "--expires", "1.5s"], 2, "whole seconds"),
        (["presign", "s3://{bucket}/", "--expires", "soon"], 2, "--expires"),
        (["presign", "s3://{bucket}/", "--method", "delete"], 2, "GET"),
        (["presign", "s3://{bucket}/nothing/"], 2, "has no objects"),
        (["presign"], 2, "--from"),
        (["doctor", "s3://{bucket}/", "--policy", "write"], 2, "read-write"),
        (["doctor", "/a/directory"], 2, "no prefix of S3"),
        (["cost", "s3://no-such-bucket-there/"], 1, "no-such-bucket-there"),
    ],
)
def test_wrong_use(arguments: list[str], code: int, told: str, bucket: Bucket) -> None:
    done = asyncfetch(*[argument.format(bucket=bucket.name) for argument in arguments])
    assert done.code == code
    assert told in done.err
    assert done.err.count("\n") == 1


def test_what_a_prefix_costs(bucket: Bucket) -> None:
    told = json.loads(asyncfetch("cost", bucket.uri("dir/"), "--json").out)
    assert (told["objects"], told["bytes"], told["estimate"]) == (3, 6000, True)
    assert told["shares"][0]["storage_class"] == "STANDARD"
    assert told["storage"] == pytest.approx(6000 / 2**30 * 0.023)
    shown = asyncfetch("cost", bucket.uri("dir/"), "--prices", "eu-central-1").out.decode()
    assert "An estimate from the list prices of eu-central-1" in shown


def test_costs_that_round_to_nothing_are_not_told_as_a_number_that_breaks_off(bucket: Bucket) -> None:
    bucket.put("tiny/1", b"x")
    shown = asyncfetch("cost", bucket.uri("tiny/")).out.decode()
    assert "$0. " not in shown
    assert "$0.\n" not in shown
    assert "< $0.000001" in shown
