"""What rings keep, and what they tell those who read slower than services write."""

from supervisord_pidfd.logger.lines import Batch
from supervisord_pidfd.logger.ring import BATCH_BYTES, Place, Ring, Rings


def batch(data, run=1, service="web"):
    return Batch(service, "stdout", run, 1, 1000.0, data)


def held(ring):
    return [one.data for one in ring.all()[0]]


def test_the_oldest_leave_when_there_are_too_many():
    ring = Ring(3 * (BATCH_BYTES + 4))
    for number in range(5):
        ring.add(batch(b"%3d\n" % number))

    assert held(ring) == [b"  2\n", b"  3\n", b"  4\n"]


def test_empty_lines_do_not_hold_many_times_the_size():
    ring = Ring(10_000)
    for _ in range(1000):
        ring.add(batch(b"\n"))

    assert len(held(ring)) <= 10_000 // BATCH_BYTES


def test_the_newest_batch_stays_however_large():
    ring = Ring(10)
    ring.add(batch(b"a\n"))
    ring.add(batch(b"x" * 1000 + b"\n"))

    assert held(ring) == [b"x" * 1000 + b"\n"]


def test_a_reader_gets_each_batch_once():
    ring = Ring(10_000)
    ring.add(batch(b"a\n"))
    ring.add(batch(b"b\n"))

    first, place, missed = ring.next(Place())
    assert (first.data, missed) == (b"a\n", 0)
    second, place, _ = ring.next(place)
    assert second.data == b"b\n"
    assert ring.next(place) is None
    assert place == ring.end()


def test_who_is_too_slow_is_told_how_many_bytes_it_missed():
    ring = Ring(2 * (BATCH_BYTES + 2))
    ring.add(batch(b"0\n"))
    _, place, _ = ring.next(Place())
    for number in range(1, 6):
        ring.add(batch(b"%d\n" % number))

    found, after, missed = ring.next(place)
    assert (found.data, missed) == (b"4\n", 3 * 2)
    assert ring.next(after)[0].data == b"5\n"


def test_rings_shrink_evenly_when_there_are_many():
    rings = Rings(total=8 * BATCH_BYTES)
    only = rings.ring("a")
    only.resize(1 << 20)
    for _ in range(20):
        only.add(batch(b""))
    assert len(held(only)) == 8

    rings.ring("b").resize(1 << 20)
    assert len(held(only)) == 4
    rings.forget("b")
    for _ in range(20):
        only.add(batch(b""))
    assert len(held(only)) == 8


def test_a_ring_is_no_larger_than_wanted_however_much_room_there_is():
    ring = Rings().ring("a")
    ring.resize(2 * BATCH_BYTES)
    for _ in range(20):
        ring.add(batch(b""))

    assert len(held(ring)) == 2


def test_the_newest_run_is_known_before_it_writes():
    ring = Ring(1000)
    ring.add(batch(b"a\n", run=4))
    assert ring.newest_run == 4
    ring.begin(5)
    assert ring.newest_run == 5
