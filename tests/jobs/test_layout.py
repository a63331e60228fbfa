"""Paths of files: below their directory whatever a key says, and each its own."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.errors import UsageError
from asyncfetch.jobs.layout import OWN, Layout, apart, folded

parts = st.sampled_from(["", ".", "..", "a", "A", "con", "COM1.txt", "logs", "é" * 200, "x" * 300 + ".jpg", "\0", "~"])
keys = st.lists(parts | st.text(max_size=8), min_size=1, max_size=5).map("/".join)
layouts = st.sampled_from(
    [Layout(), Layout(flat=True), Layout(template="{folder}/{stem}-{digest:.8}{ext}"), Layout(template="../{name}")]
)


@given(below=keys, layout=layouts, uri=st.text())
def test_no_key_leads_out_of_the_directory(below: str, layout: Layout, uri: str) -> None:
    first = layout.path(below, "0" * 64)
    for path in (first, apart(first, uri)):
        for part in path.split("/"):
            assert part not in ("", ".", "..")
            assert not any(ord(letter) < 32 for letter in part)
            assert len(part.encode("utf-8", "surrogatepass")) <= 255
        assert folded(path.split("/")[0]) not in OWN
        assert not os.path.isabs(path)
    assert apart(first, uri) != first


@pytest.mark.parametrize(
    ("layout", "below", "path"),
    [
        (Layout(), "2024/a.jpg", "2024/a.jpg"),
        (Layout(flat=True), "2024/a.jpg", "a.jpg"),
        (Layout(template="{stem}-{digest:.8}{ext}"), "x/a.b.jpg", "a.b-01234567.jpg"),
        (Layout(template="{folder}/{digest}"), "x/y/a", "x/y/0123456789"),
        (Layout(), "../../etc/passwd", "%2E./%2E./etc/passwd"),
        (Layout(), "/etc/passwd", "%/etc/passwd"),
        (Layout(), "a//b", "a/%/b"),
        (Layout(), "x/aux.c", "x/%61ux.c"),
        (Layout(), "auxiliary", "auxiliary"),
        (Layout(), "Ledger.jsonl", "%4Cedger.jsonl"),
        (Layout(), "x/ledger.jsonl", "x/ledger.jsonl"),
        (Layout(), "tab\there", "tab%09here"),
        (Layout(), ".hidden", ".hidden"),
        (Layout(ext=".webp"), "x/a.tar.gz", "x/a.tar.webp"),
        (Layout(ext=".webp"), "x/a", "x/a.webp"),
    ],
)
def test_where_a_file_lies(layout: Layout, below: str, path: str) -> None:
    assert layout.path(below, "0123456789") == path


def test_what_collides_goes_apart_by_its_uri_alone() -> None:
    assert apart("x/a.jpg", "s3://b/1") == apart("x/a.jpg", "s3://b/1")
    assert apart("x/a.jpg", "s3://b/1") != apart("x/a.jpg", "s3://b/2")
    assert apart("x/a.jpg", "s3://b/1").startswith("x/a-")
    assert folded("Straße/É.jpg") == folded("STRASSE/e\u0301.JPG")


@pytest.mark.parametrize(
    "template", ["{", "{key}", "{0}", "{stem.__class__}", "{stem[0]}", "{folder}/same", "{stem:d}"]
)
def test_a_template_that_means_nothing_is_refused(template: str) -> None:
    with pytest.raises(UsageError, match="--template"):
        Layout(template=template)
    with pytest.raises(UsageError):
        Layout(flat=True, template="{stem}")
