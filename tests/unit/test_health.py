"""When a row of verdicts makes a check fail, and pass again."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.health import UNKNOWN, CheckRecord, Health, Verdict, observe
from supervisord_pidfd.core.spec import CheckKind, CheckSpec


def check(failures=3, successes=1):
    return CheckSpec("live", CheckKind.TCP, failures=failures, successes=successes)


def crossings(spec, row):
    """Feed a row such as "++--" and return the places at which a threshold was crossed."""
    health, found = UNKNOWN, []
    for place, sign in enumerate(row):
        health, crossed = observe(spec, health, Verdict(sign == "+"))
        if crossed is not None:
            found.append((place, crossed))
    return found


@pytest.mark.parametrize(
    ("failures", "successes", "row", "expected"),
    [
        (3, 1, "+", [(0, True)]),
        (3, 1, "--", []),
        (3, 1, "---", [(2, False)]),
        (3, 1, "--+--", [(2, True)]),
        (3, 1, "+---------", [(0, True), (3, False)]),
        (3, 2, "---+-++", [(2, False), (6, True)]),
        (1, 1, "+-+-", [(0, True), (1, False), (2, True), (3, False)]),
        (1, 3, "-++-+++", [(0, False), (6, True)]),
    ],
)
def test_a_threshold_is_crossed_where_the_row_is_long_enough(failures, successes, row, expected):
    assert crossings(check(failures, successes), row) == expected


@pytest.mark.parametrize(
    ("verdict", "word"),
    [
        (Verdict(ok=True), "success"),
        (Verdict(ok=False), "failure"),
        (Verdict(ok=False, timed_out=True), "timeout"),
    ],
)
def test_a_verdict_is_counted_under_one_word(verdict, word):
    assert verdict.result == word


@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.booleans(), max_size=60).map(list))
def test_crossings_alternate_and_each_has_its_row_before_it(failures, successes, row):
    signs = "".join("+" if ok else "-" for ok in row)
    found = crossings(check(failures, successes), signs)

    assert all(one[1] is not other[1] for one, other in itertools.pairwise(found))
    for place, passes in found:
        needed = successes if passes else failures
        assert signs[: place + 1].endswith(("+" if passes else "-") * needed)


def test_a_record_counts_over_all_runs_and_keeps_the_last_error():
    record = CheckRecord("live", "http")
    new = record.plain()
    record.count(Verdict(ok=True, took_s=0.1), 1.0)
    record.count(Verdict(ok=False, took_s=3.0, error="no answer", timed_out=True), 2.0)
    record.health = Health(None, 1, 0)
    failed = record.plain()
    record.count(Verdict(ok=True, took_s=0.2), 3.0)

    assert (new["ok"], new["runs"], new["last_ts"]) == (None, {}, None)
    assert failed == {
        "name": "live",
        "kind": "http",
        "ok": None,
        "failures": 1,
        "runs": {"success": 1, "timeout": 1},
        "last_ts": 2.0,
        "last_duration_s": 3.0,
        "error": "no answer",
    }
    assert record.plain()["error"] is None
    assert record.runs == {"success": 2, "timeout": 1}
