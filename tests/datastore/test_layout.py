"""Names in keys: none escapes from its folder, no two are one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.datastore import DataReference, InvalidDigest, InvalidName
from asyncfetch.datastore.digests import read_digest
from asyncfetch.datastore.layout import (
    data_key,
    escape,
    manifest_key,
    model_key,
    plain_extension,
    pointed_run,
    pointer_prefix,
    read_data_key,
    unescape,
)

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=15)
DIGEST = "0a" * 32


@given(NAMES)
def test_a_name_comes_back_from_its_key(name: str) -> None:
    part = escape(name, "a run")
    assert unescape(part) == name
    assert part.isascii()
    assert "/" not in part
    assert not part.startswith(".")
    assert pointed_run(manifest_key(name)) == name


@pytest.mark.parametrize("name", [".", "..", "../../etc/passwd", "a/../b", "?versionId=1", "a%2Fb", "ü", "\0"])
def test_names_that_would_mean_something_mean_nothing(name: str) -> None:
    for key in (manifest_key(name), model_key("registry", name, "v1"), pointer_prefix("project", name)):
        assert not {"", ".", ".."} & set(key.rstrip("/").split("/"))
        assert "?" not in key
        assert key.count("/") == key.replace(escape(name, "x"), "").count("/")


def test_names_that_look_alike_are_two() -> None:
    assert len({escape(name, "x") for name in ("a/b", "a%2Fb", "a%252Fb", "ü", "u\u0308", "\u00fc")}) == 5


@pytest.mark.parametrize("name", ["", "x" * 201, "ü" * 34, "\ud800"])
def test_a_name_that_no_key_can_hold_is_refused(name: str) -> None:
    with pytest.raises(InvalidName):
        manifest_key(name)


@pytest.mark.parametrize(
    "digest", ["", "ab", DIGEST[:-1], DIGEST + "0", "g" * 64, f"md5:{DIGEST}", None, 3, DIGEST + "\n"]
)
def test_what_is_no_digest_is_refused(digest: object) -> None:
    with pytest.raises(InvalidDigest, match="64 hexadecimal"):
        read_digest(digest)


def test_digests_are_read_as_other_tools_write_them() -> None:
    assert read_digest(f"sha256:{DIGEST.upper()}") == DIGEST


def test_data_lies_where_the_layout_says() -> None:
    assert data_key(DIGEST, "npy") == f"0a/{DIGEST}/data.npy"
    told = read_data_key(f"0a/{DIGEST}/data.npy")
    assert told is not None
    assert (told.digest, told.extension) == (DIGEST, "npy")


@pytest.mark.parametrize(
    "key",
    [
        "x",
        f"0b/{DIGEST}/data.npy",
        f"0a/{DIGEST}/data",
        f"0a/{DIGEST}/data.N",
        f"0a/{DIGEST}/x/data.npy",
        "0a/0a/data.npy",
    ],
)
def test_a_strangers_key_is_known_as_one(key: str) -> None:
    assert read_data_key(key) is None


@pytest.mark.parametrize(
    ("suffix", "extension"), [(".JPG", "jpg"), ("", "bin"), (".tar/x", "bin"), (".ü", "bin"), (".x" * 20, "bin")]
)
def test_extensions_are_such_as_every_system_takes(suffix: str, extension: str) -> None:
    assert plain_extension(suffix) == extension


def test_a_reference_goes_through_json() -> None:
    reference = DataReference(DIGEST, 3, "array", "npy", "x", {"a": 1})
    again = DataReference.from_json(reference.to_json())
    assert (again, again.name, again.metadata) == (reference, "x", {"a": 1})
