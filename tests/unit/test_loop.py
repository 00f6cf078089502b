"""The loop's order, its deadlines and its nets, with a clock that the test moves."""

import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.loop import BATCH, Loop, Priority
from tests.fakes import FakeClock


class Bench:
    """A loop whose errors and calls are kept."""

    def __init__(self):
        self.clock = FakeClock()
        self.errors = []
        self.calls = []
        self.loop = Loop(self.clock, lambda where, error: self.errors.append((where, error)))

    def note(self, what):
        return lambda *_: self.calls.append(what)


@pytest.fixture
def bench():
    it = Bench()
    yield it
    it.loop.close()


@pytest.fixture
def pipes():
    opened = []

    def make():
        ends = os.pipe()
        opened.extend(ends)
        return ends

    yield make
    for fd in opened:
        os.close(fd)


def ready_pipe(pipes):
    read_end, write_end = pipes()
    os.write(write_end, b"x")
    return read_end


# -- order ----------------------------------------------------------------------------------------


def test_a_batch_is_called_by_priority_and_before_the_deadlines(bench, pipes):
    for priority in (Priority.CONTROL, Priority.READINESS, Priority.EXITS, Priority.CONTROL):
        bench.loop.add(ready_pipe(pipes), priority, bench.note(priority.name))
    bench.loop.deadline(bench.note("deadline")).arm(bench.clock.now())
    bench.loop.after_turn = bench.note("after")

    bench.loop.run_once()

    expected = ["READINESS", "EXITS", "CONTROL", "CONTROL", "deadline", "after"]
    assert bench.calls == expected


def test_the_exits_of_a_batch_are_counted_before_the_first_of_them_is_called(bench, pipes):
    counts = []
    for priority in (Priority.CONTROL, Priority.EXITS, Priority.EXITS):
        bench.loop.add(ready_pipe(pipes), priority, lambda _: counts.append(bench.loop.exits))

    bench.loop.run_once()
    assert counts == [2, 2, 2]
    bench.loop.run_once(0.0)
    assert bench.loop.exits == 2  # they are level-triggered and were not read
    for fd in tuple(bench.loop._callbacks):
        bench.loop.remove(fd)
    bench.loop.run_once(0.0)
    assert bench.loop.exits == 0


def test_a_callback_is_told_the_events(bench, pipes):
    seen = []
    bench.loop.add(ready_pipe(pipes), Priority.CONTROL, seen.append)
    bench.loop.run_once()

    assert seen == [1]  # EPOLLIN


def test_a_descriptor_removed_within_the_batch_is_not_called(bench, pipes):
    first, second = ready_pipe(pipes), ready_pipe(pipes)
    bench.loop.add(first, Priority.READINESS, lambda _events: bench.loop.remove(second))
    bench.loop.add(second, Priority.EXITS, bench.note("second"))

    bench.loop.run_once()

    assert bench.calls == []


def test_removing_twice_is_removing_once(bench, pipes):
    fd = ready_pipe(pipes)
    bench.loop.add(fd, Priority.EXITS, bench.note("called"))
    bench.loop.remove(fd)
    bench.loop.remove(fd)
    bench.loop.run_once(0)

    assert bench.calls == []


def test_events_can_be_changed(bench, pipes):
    fd = ready_pipe(pipes)
    bench.loop.add(fd, Priority.EXITS, bench.note("called"))
    bench.loop.modify(fd, 0)
    bench.loop.run_once(0)

    assert bench.calls == []


def test_a_turn_takes_a_bounded_batch_and_the_next_the_rest(bench, pipes):
    for index in range(BATCH + 10):
        bench.loop.add(ready_pipe(pipes), Priority.EXITS, bench.note(index))
    bench.loop.run_once()
    assert len(bench.calls) == BATCH
    bench.loop.run_once()

    assert set(bench.calls) == set(range(BATCH + 10))  # nobody starves


def test_what_is_closed_later_is_open_until_the_turn_ends(bench, pipes):
    doomed = os.dup(pipes()[0])
    bench.loop.add(ready_pipe(pipes), Priority.EXITS, lambda _: bench.loop.close_later(doomed))
    bench.loop.after_turn = lambda: os.fstat(doomed) and bench.calls.append("open")
    bench.loop.run_once()

    assert bench.calls == ["open"]
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(doomed)


def test_closing_the_loop_closes_what_was_left_for_later(pipes):
    loop = Loop(FakeClock(), lambda *_: None)
    doomed = os.dup(pipes()[0])
    loop.close_later(doomed)
    loop.close()

    with pytest.raises(OSError, match="Bad file"):
        os.fstat(doomed)


# -- deadlines ------------------------------------------------------------------------------------


def test_deadlines_come_in_their_order_and_not_early(bench):
    now = bench.clock.now()
    for seconds in (3, 1, 2):
        bench.loop.deadline(bench.note(seconds)).arm(now + seconds)
    bench.clock.advance(0.999)
    bench.loop.run_once(0)
    assert bench.calls == []
    bench.clock.advance(2)
    bench.loop.run_once(0)

    assert bench.calls == [1, 2]
    assert bench.loop.next_deadline() == now + 3


def test_a_moved_deadline_comes_once_and_at_its_last_moment(bench):
    now = bench.clock.now()
    deadline = bench.loop.deadline(bench.note("called"))
    for seconds in (5, 1, 3):
        deadline.arm(now + seconds)
    bench.clock.advance(2)
    bench.loop.run_once(0)
    assert bench.calls == []
    bench.clock.advance(8)
    bench.loop.run_once(0)
    bench.loop.run_once(0)

    assert bench.calls == ["called"]
    assert bench.loop.next_deadline() == math.inf


def test_a_disarmed_deadline_does_not_come(bench):
    deadline = bench.loop.deadline(bench.note("called"))
    deadline.arm(bench.clock.now() + 1)
    deadline.disarm()
    bench.clock.advance(2)
    bench.loop.run_once(0)

    assert bench.calls == []
    assert bench.loop.next_deadline() == math.inf


def test_a_deadline_armed_again_for_the_same_moment_comes_once(bench):
    moment = bench.clock.now() + 1
    deadline = bench.loop.deadline(bench.note("called"))
    deadline.arm(moment)
    deadline.arm(moment)
    deadline.disarm()
    deadline.arm(moment)
    bench.clock.advance(1)
    bench.loop.run_once(0)
    bench.loop.run_once(0)

    assert bench.calls == ["called"]


def test_one_that_arms_itself_anew_comes_once_a_turn(bench):
    def again():
        bench.calls.append("called")
        deadline.arm(bench.clock.now())

    deadline = bench.loop.deadline(again)
    deadline.arm(bench.clock.now())
    deadline.disarm()
    deadline.arm(bench.clock.now())
    bench.loop.run_once(0)
    assert bench.calls == ["called"]
    bench.loop.run_once(0)

    assert bench.calls == ["called"] * 2


def test_one_disarmed_by_another_of_the_same_turn_does_not_come(bench):
    second = bench.loop.deadline(bench.note("second"))
    bench.loop.deadline(second.disarm).arm(bench.clock.now() + 1)
    second.arm(bench.clock.now() + 2)
    bench.clock.advance(3)
    bench.loop.run_once(0)

    assert bench.calls == []


def test_infinity_is_not_armed(bench):
    deadline = bench.loop.deadline(bench.note("called"))
    deadline.arm(bench.clock.now() + 1)
    deadline.arm(math.inf)

    assert bench.loop.next_deadline() == math.inf
    assert bench.loop._timeout(None) == -1


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.floats(0, 10))), max_size=60))
def test_each_deadline_comes_at_the_moment_it_was_armed_for_last(orders):
    bench = Bench()
    begin = bench.clock.now()
    came = {}
    deadlines = [
        bench.loop.deadline(lambda i=index: came.setdefault(i, []).append(bench.clock.now()))
        for index in range(5)
    ]
    last = {}
    for index, delay in orders:
        if delay is None:
            deadlines[index].disarm()
            last.pop(index, None)
        else:
            deadlines[index].arm(begin + delay)
            last[index] = begin + delay
    while (moment := bench.loop.next_deadline()) != math.inf:
        bench.clock.advance_to(max(moment, bench.clock.now()))
        bench.loop.run_once(0)
    bench.loop.close()

    assert came == {index: [moment] for index, moment in last.items()}


def test_a_storm_of_moved_deadlines_does_not_grow_the_heap(bench):
    deadlines = [bench.loop.deadline(bench.note("x")) for _ in range(100)]
    longest = 0
    for turn in range(200):
        for index, deadline in enumerate(deadlines):
            deadline.arm(bench.clock.now() + 1000 + turn + index)
        longest = max(longest, len(bench.loop._heap))

    assert longest <= 2 * (100 + 1) + 64 + 1
    assert bench.loop.next_deadline() == bench.clock.now() + 1000 + 199


def test_many_armed_deadlines_are_seldom_sorted(bench):
    """Compacting costs as much as what lives, so it must wait until as much is dead."""
    compacted = []
    compact = bench.loop._compact
    bench.loop._compact = lambda newest: (compacted.append(len(bench.loop._heap)), compact(newest))
    for index in range(5000):
        bench.loop.deadline(bench.note("x")).arm(bench.clock.now() + index)
    assert len(compacted) < 10


# -- waiting --------------------------------------------------------------------------------------


def test_with_nothing_to_come_the_wait_has_no_end(bench):
    assert bench.loop._timeout(None) == -1
    assert bench.loop._timeout(0.5) == 0.5


def test_the_wait_ends_with_the_first_deadline(bench):
    bench.loop.deadline(bench.note("x")).arm(bench.clock.now() + 2)

    assert bench.loop._timeout(None) == 2
    assert bench.loop._timeout(1.0) == 1
    bench.clock.advance(5)
    assert bench.loop._timeout(None) == 0


def test_a_deadline_in_a_year_can_be_waited_for(bench, pipes):
    bench.loop.deadline(bench.note("x")).arm(bench.clock.now() + 365 * 86400)
    bench.loop.add(ready_pipe(pipes), Priority.EXITS, bench.note("called"))
    bench.loop.run_once()

    assert bench.calls == ["called"]


def test_lag_is_told_for_each_deadline(bench):
    lags = []
    bench.loop.on_lag = lags.append
    bench.loop.deadline(bench.note("x")).arm(bench.clock.now() + 1)
    bench.clock.advance(1.5)
    bench.loop.run_once(0)

    assert lags == [0.5]


def test_busy_time_is_told_for_each_turn(bench, pipes):
    busy = []
    bench.loop.on_busy = busy.append
    bench.loop.add(ready_pipe(pipes), Priority.EXITS, lambda _: bench.clock.advance(0.25))
    bench.loop.run_once()

    assert busy == [0.25]


# -- running --------------------------------------------------------------------------------------


def test_run_goes_on_at_once_while_there_is_work_left(bench):
    left = iter([True, True, True])

    def after():
        bench.calls.append("after")
        if next(left, None) is None:
            bench.loop.stop()
            return False
        return True

    bench.loop.after_turn = after
    bench.loop.deadline(bench.note("first")).arm(bench.clock.now())
    bench.loop.run()

    assert bench.calls == ["first", "after", "after", "after", "after"]


def test_stop_ends_run_after_the_turn(bench, pipes):
    bench.loop.add(ready_pipe(pipes), Priority.READINESS, lambda _: bench.loop.stop())
    bench.loop.add(ready_pipe(pipes), Priority.CONTROL, bench.note("control"))
    bench.loop.after_turn = bench.note("after")
    bench.loop.run()

    assert bench.calls == ["control", "after"]


def test_an_exception_is_told_and_the_turn_goes_on(bench, pipes):
    def crash(*_):
        raise RuntimeError

    bench.loop.add(ready_pipe(pipes), Priority.READINESS, crash)
    bench.loop.add(ready_pipe(pipes), Priority.EXITS, bench.note("exits"))
    bench.loop.deadline(crash).arm(bench.clock.now())
    bench.loop.deadline(bench.note("deadline")).arm(bench.clock.now())
    bench.loop.after_turn = crash
    more = bench.loop.run_once()

    assert bench.calls == ["exits", "deadline"]
    assert [where for where, _ in bench.errors] == ["callback", "deadline", "after turn"]
    assert more is False


def test_turns_are_counted(bench):
    bench.loop.run_once(0)
    bench.loop.run_once(0)

    assert bench.loop.turn == 2
