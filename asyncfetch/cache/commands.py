"""What the cache's thread can be told to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from asyncfetch.cache.changes import Change
    from asyncfetch.cache.records import Elsewhere, Found, Published, Ref, RefKey
    from asyncfetch.cache.sinks import Body

    # Told of objects that others were bringing: where each is by now, or None when it is the caller's to fetch.
    Later = Callable[[Mapping[RefKey, Found | None]], None]


class LookUp(NamedTuple):
    """Which of these objects are here? With `later` those that are not, or are `stale`, are about to be asked for."""

    keys: Sequence[RefKey]
    done: Callable[[list[Found | Elsewhere | None] | Exception], None]
    later: Later | None = None
    stale: Callable[[int, Ref], bool] | None = None  # of the key at this place


class Read(NamedTuple):
    """The bytes of this object, if it is here beyond doubt and `may` says that they may be given out as they are."""

    key: RefKey
    may: Callable[[Ref], bool]
    done: Callable[[bytes | Exception | None], None]


class Write:
    """Put this body under its name, with a `change` that says that `key` is it; or, `private`, outside the cache.

    `release` is called on the loop once the body is not needed any more.
    """

    __slots__ = ("body", "change", "done", "key", "private", "release")  # no tuple: there is one for each object

    def __init__(
        self,
        body: Body,
        release: Callable[[], None] | None,
        done: Callable[[Published | Exception], None],
        key: RefKey | None = None,
        change: Change | None = None,
        private: bool = False,
    ) -> None:
        self.body = body
        self.release = release
        self.done = done
        self.key = key
        self.change = change
        self.private = private


class Note(NamedTuple):
    """Change the index. Look-ups that overtake it find `key` as it will be: gone, or `ref` as checked at `at`."""

    change: Change
    key: RefKey
    ref: Ref | None = None
    at: float = 0.0

    def seen(self, ref: Ref | None) -> Ref | None:
        """What the index will say of the object, where it says `ref` now."""
        if ref is None or self.ref is None:
            return None
        if (ref.digest, ref.etag) != (self.ref.digest, self.ref.etag):
            return ref
        return ref._replace(validated=self.at)


class Discard(NamedTuple):
    """Remove a private file."""

    path: str


class Ask(NamedTuple):
    """Call a function on the thread, between batches, in its turn among the writes."""

    function: Callable[[], object]
    done: Callable[[object], None]  # gets the exception instead when it raised one


class Release(NamedTuple):
    """The object will not come after all; who waits for it in other processes may know."""

    key: RefKey


Command = LookUp | Read | Write | Note | Discard | Ask | Release
