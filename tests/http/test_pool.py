from __future__ import annotations

from hypothesis import assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from asyncfetch.http.pool import Pool

LIMIT, IDLE_TIMEOUT, LIFETIME = 3, 10.0, 50.0


class PoolAgainstModel(RuleBasedStateMachine):
    """Plays every event a pool can see, against plain lists of what must be true."""

    def __init__(self) -> None:
        super().__init__()
        self.pool: Pool[str, str] = Pool(limit=LIMIT, idle_timeout=IDLE_TIMEOUT, lifetime=LIFETIME)
        self.now = 0.0
        self.names = 0
        self.opening = 0
        self.busy: dict[str, str] = {}  # connection: the request on it
        self.idle: list[tuple[str, float]] = []  # last used last
        self.born: dict[str, float] = {}
        self.waiting: list[str] = []
        self.repeats: list[str] = []
        self.retry_later = False

    def name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def open_more(self) -> None:
        room = LIMIT - len(self.born) - self.opening
        wanted = len(self.waiting) + len(self.repeats) - self.opening
        count = self.pool.openings()
        assert count == max(0, min(room, wanted))
        self.opening += count
        self.retry_later = False

    def served(self, connection: str, request: str | None) -> None:
        if request is None:
            assert not self.waiting
            self.idle.append((connection, self.now))
        else:
            self.busy[connection] = request

    @rule()
    def submit(self) -> None:
        request = self.name("r")
        connection = self.pool.submit(request)
        if self.idle:
            assert connection == self.idle.pop()[0]
            self.busy[connection] = request
        else:
            assert connection is None
            self.waiting.append(request)
            self.open_more()

    @precondition(lambda self: self.opening)
    @rule()
    def opened(self) -> None:
        connection = self.name("c")
        self.opening -= 1
        self.born[connection] = self.now
        request = self.pool.opened(connection, self.now)
        if self.repeats:
            assert request == self.repeats.pop(0)
        elif self.waiting:
            assert request == self.waiting.pop(0)
        self.served(connection, request)

    @precondition(lambda self: self.opening)
    @rule()
    def failed(self) -> None:
        self.opening -= 1
        request = self.pool.failed()
        if len(self.repeats) > self.opening:
            assert request == self.repeats.pop(0)
        elif self.born:
            assert request is None  # the connections that are open will serve whoever waits
        elif len(self.waiting) + len(self.repeats) > self.opening:
            assert request == self.waiting.pop(0)
        if request is not None:
            self.open_more()
        else:
            self.retry_later = True

    @precondition(lambda self: self.busy)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(sorted(self.busy)))
        del self.busy[connection]
        request = self.pool.release(connection, self.now)
        if self.waiting:
            assert request == self.waiting.pop(0)
        self.served(connection, request)

    @precondition(lambda self: self.born)
    @rule(data=st.data(), stale=st.booleans())
    def lost(self, data: st.DataObject, stale: bool) -> None:
        connection = data.draw(st.sampled_from(sorted(self.born)))
        del self.born[connection]
        self.idle = [entry for entry in self.idle if entry[0] != connection]
        request = self.busy.pop(connection, None)
        self.pool.lost(connection)
        if stale and request is not None:
            self.pool.repeat(request)
            self.repeats.append(request)
        self.open_more()

    @precondition(lambda self: self.waiting or self.repeats)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.waiting + self.repeats))
        (self.waiting if request in self.waiting else self.repeats).remove(request)
        self.pool.withdraw(request)

    @rule()
    def withdraw_what_is_gone(self) -> None:
        self.pool.withdraw("stranger")

    @rule(seconds=st.sampled_from([0.0, 4.0, 11.0, 30.0]))
    def check_the_clock(self, seconds: float) -> None:
        self.now += seconds
        close, retire = self.pool.expired(self.now)
        old = {connection for connection, born in self.born.items() if self.now - born >= LIFETIME}
        expected = {name for name, since in self.idle if name in old or self.now - since >= IDLE_TIMEOUT}
        assert set(close) == expected
        assert set(retire) == old & set(self.busy)
        self.idle = [entry for entry in self.idle if entry[0] not in expected]
        for connection in close:
            del self.born[connection]
        self.open_more()

    @rule()
    def lose_what_is_gone(self) -> None:
        assume("c0" not in self.born)
        self.pool.lost("c0")

    @invariant()
    def agrees_with_the_model(self) -> None:
        assert set(self.pool.connections) == set(self.born) == {name for name, _ in self.idle} | set(self.busy)
        assert self.pool.idle == len(self.idle)
        assert self.pool.waiting == self.repeats + self.waiting
        assert self.pool.vacant == (not (self.born or self.opening or self.waiting or self.repeats))

    @invariant()
    def keeps_its_promises(self) -> None:
        assert len(self.born) + self.opening <= LIMIT
        assert not (self.idle and self.waiting)
        assert len(self.repeats) <= self.opening
        if self.waiting and not self.retry_later:
            # Someone comes for each who waits: as many openings as there is room for, or connections in use.
            assert self.opening >= min(len(self.waiting) + len(self.repeats), LIMIT - len(self.born))
        assert not self.waiting or self.opening or self.busy


TestPoolAgainstModel = PoolAgainstModel.TestCase
TestPoolAgainstModel.settings = settings(deadline=None)


def test_idle_connections_are_used_last_in_first_out() -> None:
    pool: Pool[str, str] = Pool(limit=2, idle_timeout=10, lifetime=50)
    for request in ("a", "b"):
        pool.submit(request)
    assert pool.openings() == 2
    assert (pool.opened("x", 0), pool.opened("y", 0)) == ("a", "b")
    pool.release("y", 1)
    pool.release("x", 2)
    assert pool.submit("c") == "x"
