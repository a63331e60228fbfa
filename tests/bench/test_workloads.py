"""Which scenarios follow from the options."""

from bench.workloads import WORKLOADS, scenarios


def names(*workloads: str, **options: bool | float | None) -> list[str]:
    return [one.name for one in scenarios(list(workloads), **options)]  # type: ignore[arg-type]


def test_tls_is_measured_beside_plain_where_targets_ask_for_it() -> None:
    assert names("photos", "small") == ["photos", "photos-tls", "small"]
    assert names("photos", "small", quick=True) == ["photos", "small"]


def test_one_wire_only_when_asked_for() -> None:
    assert names("photos", "small", tls=True) == ["photos-tls", "small-tls"]
    assert names("photos", "small", tls=False) == ["photos", "small"]


def test_what_fetches_nothing_has_no_wire_and_the_canned_pages_are_plain() -> None:
    assert names("warm-bytes", "list", tls=True) == ["warm-bytes", "list"]


def test_on_disk_comes_beside_and_a_listing_has_no_cache() -> None:
    assert names("small", "list", disk=True) == ["small", "small@disk", "list"]


def test_scale_and_quick_change_the_counts_but_never_to_nothing() -> None:
    assert [one.objects for one in scenarios(list(WORKLOADS), scale=1e-9)] == [1] * 13
    assert scenarios(["photos"], scale=0.5)[0].objects == WORKLOADS["photos"].count // 2
    assert scenarios(["photos"], quick=True)[0].objects == WORKLOADS["photos"].quick_count


def test_titles_say_wire_and_medium() -> None:
    titles = [one.title for one in scenarios(["photos", "warm-entries"], tls=True, disk=True)]
    assert "TLS" in titles[0]
    assert "disk" in titles[1]
    assert not any("HTTP" in title or "TLS" in title for title in titles if "warm" in title)
