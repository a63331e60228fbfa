"""A listing taken apart at its slashes: several requests at once, and objects in the order of their keys all the same.

All keys below a common prefix stand together in the UTF-8 order of keys, so the listings of common prefixes and the
objects between them, one after another, are the listing of the whole. Where the tree is worth it is seen from its
pages: one whose thousand keys lie in few branches is gone on with by the delimiter, and where branches turn out to be
small what is left of them is listed in one. So a tree costs at most some eight times the requests of a plain listing,
and one without branches, or with a branch for each object, hardly more than those.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from asyncfetch.engine import PAGE, PageCall
from asyncfetch.errors import FetcherClosed
from asyncfetch.uris import Location

if TYPE_CHECKING:
    import asyncio

    from asyncfetch.engine import Engine
    from asyncfetch.objects import ObjectStat
    from asyncfetch.origins import Origin

FEW = 8  # branches in a page that make each worth a request; also how many are looked at before the rest is judged
_LAST = "\U0010ffff"  # no character comes behind it in Unicode, nor in the order of UTF-8
_GUARD = "?versionId="  # closes the URI of a key that itself ends like a version


@dataclass(slots=True, eq=False)
class _Family:
    """The common prefixes of one level: whether they were worth a request each."""

    prefix: str
    listed: int = 0  # branches
    objects: int = 0  # in those


@dataclass(slots=True, eq=False)
class _Branch:
    """What is listed by requests of its own: keys with a prefix, behind `after`, and not below `floor`."""

    prefix: str
    after: str | None = None
    floor: str = ""
    rolled: bool = False  # listed by the delimiter, what is behind the next slash left to branches of its own
    family: _Family | None = None
    pages: deque[list[ObjectStat]] = field(default_factory=deque)
    count: int = 0  # objects that came
    call: PageCall | None = None
    error: Exception | None = None
    ended: bool = False

    @property
    def untouched(self) -> bool:
        return self.call is None and not self.count and not self.ended and self.error is None


class Branches:
    """The pages of everything below a prefix, `parallel` requests at a time.

    What the consumer has not taken is at most three pages for each of these. A page that failed raises in its place.
    """

    def __init__(self, engine: Engine, origin: Origin, location: Location, parallel: int, *, page: int = PAGE) -> None:
        self._lanes = engine.lanes
        self._loop = engine.loop
        self._origin = origin
        self._location = location
        self._parallel = parallel
        self._page = page
        self._base = len(str(Location("s3", location.container, "")))
        self._branches = deque([_Branch(location.key)])
        self._calls = 0
        self._held = 0  # objects that came and were not taken
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False

    async def next(self) -> list[ObjectStat] | None:
        """The next page, None behind the last one. Raises what the origin answered, and `FetcherClosed`."""
        while not self._closed:
            while self._branches and self._branches[0].ended and not self._branches[0].pages:
                self._branches.popleft()
            if not self._branches:
                return None
            first = self._branches[0]
            if first.pages:
                page = first.pages.popleft()
                self._held -= len(page)
                self._pump()
                return page
            if first.error is not None:
                self._close()
                raise first.error
            self._pump()
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        raise FetcherClosed("It was closed while its result was awaited")

    async def aclose(self) -> None:
        """Ends every request under way."""
        self._close()

    def _close(self) -> None:
        self._closed = True
        for branch in self._branches:
            if branch.call is not None:
                branch.call.give_up(self._lanes)
        self._branches.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _pump(self) -> None:
        """Asks for pages, those that come first first. The very first is asked for however much is held."""
        ahead = 0
        for branch in self._branches:
            ahead += sum(map(len, branch.pages))
            first = branch is self._branches[0]
            # What is near is preferred: of a tree that was hoarded at its far end, the near end would come one by one.
            full = ahead >= self._parallel * self._page or self._held >= 2 * self._parallel * self._page
            if self._calls >= self._parallel or (full and not first) or branch.error is not None:
                return
            if branch.call is None and not branch.ended:
                self._ask(branch)

    def _ask(self, branch: _Branch) -> None:
        location = self._location._replace(key=branch.prefix)
        call = PageCall(self._origin, location, recursive=not branch.rolled, after=branch.after, most=self._page)
        try:
            call.begin(self._lanes)
        except FetcherClosed as error:
            branch.error = error
            return
        branch.call = call
        self._calls += 1
        call.then(lambda result: self._arrived(branch, result))

    def _arrived(self, branch: _Branch, result: asyncio.Future[tuple[list[ObjectStat], bool]]) -> None:
        branch.call = None
        self._calls -= 1
        if self._closed:
            return
        error = result.exception()
        if isinstance(error, Exception):
            branch.error = error
        else:
            page, ended = result.result()
            if branch.rolled:
                self._unroll(branch, page, ended=ended)
            else:
                self._extend(branch, page, ended=ended)
            self._judge(branch.family)
        self._pump()
        self._wake()

    def _extend(self, branch: _Branch, page: list[ObjectStat], *, ended: bool) -> None:
        """Takes a page of plain keys, and goes on by the delimiter where they lie in few branches."""
        if page:
            branch.after = self._key(page[-1])
        if branch.floor:
            page = [stat for stat in page if self._key(stat) >= branch.floor]
        self._keep(branch, page)
        if not ended and page and self._has_few_branches(page, branch.prefix):
            self._split(branch)
            ended = True
        branch.ended = ended
        if ended and branch.family is not None:
            branch.family.listed += 1
            branch.family.objects += branch.count

    def _split(self, branch: _Branch) -> None:
        """Leaves what comes behind a branch's last key to others."""
        prefix, last = branch.prefix, branch.after or ""
        slash = last.find("/", len(prefix))
        rest = [_Branch(prefix, last, rolled=True, family=_Family(prefix))]
        if slash >= 0:
            # Servers differ in whether a common prefix comes that begins before `after` and ends behind it.
            child = last[: slash + 1]
            rest = [_Branch(child, last), _Branch(prefix, child + _LAST, _behind(child), True, rest[0].family)]
        self._insert(self._branches.index(branch) + 1, rest)

    def _unroll(self, branch: _Branch, page: list[ObjectStat], *, ended: bool) -> None:
        """Takes a page of objects and common prefixes: each of these is a branch, with the objects in between."""
        found: list[_Branch] = []
        key = ""
        for stat in page:
            key = self._key(stat)
            if key < branch.floor:  # the branch that was left, once more; never the only one of a page
                continue
            if key.endswith("/") and key != branch.prefix:
                found.append(_Branch(key, family=branch.family))
                continue
            if not found or not found[-1].ended:
                found.append(_Branch(branch.prefix, family=branch.family, ended=True, pages=deque([[]])))
            found[-1].pages[0].append(stat)
        for run in found:
            run.count = sum(map(len, run.pages))
            self._held += run.count
        self._insert(self._branches.index(branch), found)
        branch.ended = ended
        if key.endswith("/") and key != branch.prefix:
            branch.after, branch.floor = key + _LAST, max(branch.floor, _behind(key))
        elif key:
            branch.after = key

    def _judge(self, family: _Family | None) -> None:
        """Lists what is left of a family in one, where its branches are small."""
        if family is None or family.listed < FEW or family.objects * FEW >= family.listed * self._page:
            return
        members = [at for at, branch in enumerate(self._branches) if branch.family is family]
        start = next((at for at in members if self._branches[at].untouched and not self._branches[at].rolled), None)
        if start is None or not all(branch.call is None for branch in self._range(start, members[-1])):
            return
        first = self._branches[start].prefix
        self._held -= sum(branch.count for branch in self._range(start, members[-1]))
        # The keys from a common prefix on: '.' is the last character before '/'.
        rest = _Branch(family.prefix, first[:-1] + "." + _LAST, first)
        branches = list(self._branches)
        self._branches = deque([*branches[:start], rest, *branches[members[-1] + 1 :]])

    def _range(self, start: int, last: int) -> list[_Branch]:
        return [self._branches[at] for at in range(start, last + 1)]

    def _insert(self, at: int, branches: list[_Branch]) -> None:
        self._branches.rotate(-at)
        self._branches.extendleft(reversed(branches))
        self._branches.rotate(at)

    def _keep(self, branch: _Branch, page: list[ObjectStat]) -> None:
        if page:
            branch.pages.append(page)
            branch.count += len(page)
            self._held += len(page)

    def _key(self, stat: ObjectStat) -> str:
        return stat.uri[self._base :].removesuffix(_GUARD)

    def _has_few_branches(self, page: list[ObjectStat], prefix: str) -> bool:
        start, branch, count = self._base + len(prefix), "", 0
        for stat in page:
            if branch and stat.uri.startswith(branch):
                continue
            slash = stat.uri.find("/", start)
            if slash >= 0:
                branch = stat.uri[: slash + 1]
                count += 1
                if count > FEW:
                    return False
        return True


def _behind(prefix: str) -> str:
    """The least key behind all that begin with a prefix, which ends with a slash: '0' follows '/'."""
    return prefix[:-1] + "0"
