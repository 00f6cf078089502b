"""One sink as one service uses it: what waits, what goes, and that every byte is accounted for."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.spec import LogFormat, LogSpec, Overflow
from supervisord_pidfd.logger.port import FIRST_RETRY_S, LAST_RETRY_S, Desk, Origin, Port, Witness
from supervisord_pidfd.logger.sinks import SinkError

LINE = b"123456789\n"
HERE = Origin("it", "stdout", 1, 1000.0)


class Sink:
    """Take so many bytes as a test says, and raise what it says when that is none."""

    device = None
    form = LogFormat.RAW

    def __init__(self):
        self.written = b""
        self.room = math.inf
        self.error = None
        self.reopened = self.closed = 0

    def write(self, data):
        taken = int(min(len(data), self.room))
        if not taken and self.error:
            raise SinkError(self.error, "/log")
        self.room -= taken
        self.written += data[:taken]
        return taken

    def waits_on(self):
        return None

    def reopen(self):
        self.reopened += 1

    def close(self):
        self.closed += 1


class Bench:
    """A port whose news are kept, and a clock moved by hand."""

    def __init__(self, overflow=Overflow.BLOCK, **members):
        self.sink = Sink()
        self.losses, self.failures, self.resumptions, self.gaps = [], [], [], []
        witness = Witness(
            self.losses.append,
            lambda path, error: self.failures.append((path, error)),
            lambda path, blocked: self.resumptions.append((path, blocked)),
            self.gaps.append,
            Desk(lambda: self.now),
        )
        spec = LogSpec(("file",), overflow=overflow, **members)
        self.port = Port(self.sink, "/log", spec, witness)
        self.now = 100.0

    def put(self, lines=1):
        data = LINE * lines
        self.port.put(data, HERE, lines, len(data), self.now)

    def retry(self, after=LAST_RETRY_S):
        self.now += after
        self.port.retry(self.now)

    @property
    def lost(self):
        return sum(loss.lines for loss in self.losses), sum(loss.size for loss in self.losses)


def test_what_the_sink_takes_leaves_nothing_behind():
    bench = Bench()
    bench.put(3)

    assert bench.sink.written == LINE * 3
    assert not bench.port.is_stuck
    assert (bench.port.retry_at, bench.port.blocks_until()) == (math.inf, 0.0)


def test_the_service_waits_for_so_long_and_no_longer():
    bench = Bench(block_for=7.0)
    bench.sink.room = 0
    bench.put()

    assert bench.port.blocks_until() == 107.0
    assert bench.port.retry_at == 100.0 + FIRST_RETRY_S


@pytest.mark.parametrize("overflow", [Overflow.DROP, Overflow.DROP_NEWEST])
def test_who_drops_does_not_wait(overflow):
    bench = Bench(overflow)
    bench.sink.room = 0
    bench.put()

    assert bench.port.is_stuck
    assert bench.port.blocks_until() == 0.0


def test_a_piece_goes_on_where_it_stopped():
    bench = Bench()
    bench.sink.room = 14
    bench.put(2)
    bench.sink.room = math.inf
    bench.retry()

    assert bench.sink.written == LINE * 2
    assert not bench.port.is_stuck
    assert bench.losses == []


def test_tries_become_rare_and_no_rarer():
    bench = Bench()
    bench.sink.room, bench.sink.error = 0, "ENOSPC"
    bench.put()
    waits = []
    for _ in range(8):
        waits.append(round(bench.port.retry_at - bench.now, 3))
        bench.now = bench.port.retry_at
        bench.port.retry(bench.now)

    assert waits == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0]
    assert bench.failures == [("/log", "ENOSPC")]  # once, not at each try


def test_the_oldest_go_and_the_mark_stands_before_the_newest():
    bench = Bench(Overflow.DROP, ring=2 * len(LINE))
    bench.sink.room, bench.sink.error = 0, "ENOSPC"
    for _ in range(5):
        bench.put()
    assert bench.lost == (2, 20)
    bench.sink.room = math.inf
    bench.retry()
    first, mark, *rest = bench.sink.written.splitlines(keepends=True)

    assert first == LINE  # what was begun is never dropped
    assert mark.startswith(b"-- 2 lines (20 bytes) dropped: write_error, ")
    assert rest == [LINE, LINE]
    assert [(gap.lines, gap.size) for gap in bench.gaps] == [(2, 20)]
    assert [path for path, _ in bench.resumptions] == ["/log"]


def test_the_newest_go_and_the_mark_stands_in_their_place():
    bench = Bench(Overflow.DROP_NEWEST)
    bench.sink.room = 0
    for _ in range(3):
        bench.put()
    bench.sink.room = math.inf
    bench.retry()
    bench.put()
    first, mark, last = bench.sink.written.splitlines(keepends=True)

    assert (first, last) == (LINE, LINE)
    assert mark.startswith(b"-- 2 lines (20 bytes) dropped: overflow, ")


def test_at_the_end_what_waits_is_counted_as_lost():
    bench = Bench()
    bench.sink.room = 14
    bench.put(3)
    bench.put()
    bench.port.close()

    assert bench.sink.written == (LINE * 3)[:14]
    assert bench.lost == (2 + 1, 16 + 10)  # a line of which a part was written counts
    assert bench.sink.closed == 1


def test_to_reopen_is_to_try_at_once():
    bench = Bench()
    bench.sink.room = 0
    bench.put()
    bench.sink.room = math.inf
    bench.port.reopen(bench.now)

    assert bench.sink.reopened == 1
    assert bench.sink.written == LINE


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(1, 5)),
        st.tuples(st.just("room"), st.integers(0, 60)),
        st.tuples(st.just("retry"), st.just(0)),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(Overflow), st.sampled_from([10, 30, 100]))
def test_every_line_is_written_once_or_counted_as_lost(steps, overflow, ring):
    bench = Bench(overflow, ring=ring)
    sent = 0
    for what, amount in steps:
        if what == "put":
            bench.put(amount)
            sent += amount
        elif what == "room":
            bench.sink.room = amount
        else:
            bench.retry()
    bench.sink.room = math.inf
    bench.retry()
    bench.port.close()
    lines = bench.sink.written.splitlines(keepends=True)
    kept = [line for line in lines if not line.startswith(b"--")]

    assert set(kept) <= {LINE}  # none is torn
    assert len(kept) + bench.lost[0] == sent
    assert len(kept) * len(LINE) + bench.lost[1] == sent * len(LINE)
    assert sum(gap.lines for gap in bench.gaps) == bench.lost[0]


def test_nothing_is_dropped_as_long_as_the_service_waits():
    bench = Bench(block_for=7.0, ring=len(LINE))
    bench.sink.room = 0
    for _ in range(4):  # what one turn had read already
        bench.put()
    assert bench.lost == (0, 0)
    bench.now += 7.0
    bench.put()

    assert bench.lost == (3, 3 * len(LINE))  # one is on its way, one is held
