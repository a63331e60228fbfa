"""Freshness without a cache: the same decision from the same facts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncfetch.cache import Freshness, Ref, decide
from asyncfetch.objects import ObjectStat

if TYPE_CHECKING:
    from asyncfetch.settings import Revalidate

NOW, STARTED = 1_000.0, 900.0
OLD, RECENT = 800.0, 950.0


def ref(validated: float, *, etag: str | None = "e", size: int = 5) -> Ref:
    return Ref(size, etag, "blake3:00", validated)


def listed(etag: str | None = "e", size: int = 5) -> ObjectStat:
    return ObjectStat("s3://bucket/key", size, etag)


@pytest.mark.parametrize(
    ("revalidate", "validated", "expected"),
    [
        ("once", OLD, Freshness.STALE),
        ("once", STARTED, Freshness.FRESH),
        ("once", RECENT, Freshness.FRESH),
        ("always", NOW, Freshness.STALE),
        ("never", 0.0, Freshness.FRESH),
        (100, STARTED, Freshness.FRESH),
        (99.5, STARTED, Freshness.STALE),
        (0, NOW, Freshness.FRESH),
        (0, NOW - 0.001, Freshness.STALE),
    ],
)
def test_age_of_last_check_decides(revalidate: Revalidate, validated: float, expected: Freshness) -> None:
    assert decide(ref(validated), revalidate=revalidate, now=NOW, job_started=STARTED) is expected


def test_unknown_object_is_a_miss() -> None:
    assert decide(None, revalidate="never", now=NOW, job_started=STARTED, versioned=True) is Freshness.MISS


def test_version_is_fresh_for_ever() -> None:
    stat = listed("other")
    assert (
        decide(ref(OLD), revalidate="always", now=NOW, job_started=STARTED, listed=stat, listed_at=NOW, versioned=True)
        is Freshness.FRESH
    )


def test_check_in_the_future_counts_as_none() -> None:
    assert decide(ref(NOW + 1), revalidate="once", now=NOW, job_started=STARTED) is Freshness.STALE
    assert decide(ref(NOW + 1), revalidate=1e9, now=NOW, job_started=STARTED) is Freshness.STALE


def test_an_object_without_an_etag_goes_stale_like_any_other() -> None:
    assert decide(ref(OLD, etag=None), revalidate="once", now=NOW, job_started=STARTED) is Freshness.STALE
    assert decide(ref(RECENT, etag=None), revalidate="once", now=NOW, job_started=STARTED) is Freshness.FRESH


@pytest.mark.parametrize(
    ("stat", "at", "expected"),
    [
        (listed(), RECENT, Freshness.VALIDATED),
        (listed(), STARTED, Freshness.VALIDATED),
        (listed(), STARTED - 1, Freshness.STALE),  # made before the job
        (listed(), NOW + 1, Freshness.STALE),  # made before the clock was set back
        (listed("other"), RECENT, Freshness.MISS),
        (listed(size=6), RECENT, Freshness.MISS),
        (listed("other"), OLD - 1, Freshness.STALE),  # older than the ref: it contradicts nothing
        (listed(None), RECENT, Freshness.STALE),  # the size alone confirms nothing
        (listed(None, 6), RECENT, Freshness.MISS),  # but it can contradict
    ],
)
def test_listing_is_a_check(stat: ObjectStat, at: float, expected: Freshness) -> None:
    found = decide(ref(OLD), revalidate="once", now=NOW, job_started=STARTED, listed=stat, listed_at=at)
    assert found is expected


def test_listing_that_contradicts_a_fresh_ref_wins_when_it_is_newer() -> None:
    for at, expected in ((RECENT + 1, Freshness.MISS), (RECENT - 1, Freshness.FRESH)):
        stat = listed("other")
        assert (
            decide(ref(RECENT), revalidate="once", now=NOW, job_started=STARTED, listed=stat, listed_at=at) is expected
        )


def test_listing_does_not_satisfy_always() -> None:
    stat = listed()
    assert (
        decide(ref(OLD), revalidate="always", now=NOW, job_started=STARTED, listed=stat, listed_at=NOW)
        is Freshness.STALE
    )


def test_listing_satisfies_an_age() -> None:
    stat = listed()
    assert (
        decide(ref(OLD), revalidate=100, now=NOW, job_started=NOW, listed=stat, listed_at=NOW - 100)
        is Freshness.VALIDATED
    )


times = st.floats(0, 2000)


@given(
    etag=st.sampled_from([None, "e", "f"]),
    validated=times,
    revalidate=st.one_of(st.sampled_from(["once", "always", "never"]), st.floats(0, 500)),
    now=times,
    job_started=times,
    stat=st.one_of(st.none(), st.builds(listed, st.sampled_from([None, "e", "f"]), st.integers(5, 6))),
    listed_at=st.one_of(st.just(-math.inf), times),
)
def test_nothing_is_served_without_a_check_that_counts(
    etag: str | None,
    validated: float,
    revalidate: Literal["once", "always", "never"] | float,
    now: float,
    job_started: float,
    stat: ObjectStat | None,
    listed_at: float,
) -> None:
    known = ref(validated, etag=etag)
    found = decide(known, revalidate=revalidate, now=now, job_started=job_started, listed=stat, listed_at=listed_at)
    since = {"once": job_started, "always": math.inf, "never": -math.inf}.get(str(revalidate))
    if since is None:
        since = now - float(revalidate)
    if found is Freshness.FRESH and revalidate != "never":
        assert since <= validated <= now
    if found is Freshness.VALIDATED:
        assert stat is not None
        assert since <= listed_at <= now
        assert (stat.etag, stat.size) == (etag, 5)
        assert etag is not None
