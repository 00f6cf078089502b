"""Whether it all fits: descriptors, and the time of a shutdown."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.config.budgets import longest_chain
from tests.support.config import load_text

WEB = '[service.web]\ncommand = "/bin/sh"\nlog.to = ["null"]\n'
PLAIN = 1 + 64 + 65
"""One process, the reserve, and the control socket."""


def needed(folder, text, **members):
    """Return how many descriptors a file needs, as it is told where there are too few."""
    (problem,) = load_text(folder, text, all_keys=True, max_files=1, **members).problems
    return int(problem.message.split()[1])


@pytest.mark.parametrize(
    ("text", "more"),
    [
        ("", 0),
        ("instances = 5", 4),
        ("type = 'notify'", 1),
        ("fdstore.max = 7", 8),
        ("health.a.watchdog = 5", 1),
        ("type = 'notify'\nhealth.a.watchdog = 5\nfdstore.max = 7\ninstances = 2", 17),
        ("ready.fd = 3", 1),
        ("ready.delay = 3", 0),
        ("ready.tcp = 'h:1'", 4),
        ("health.a.http = 'http://h'\ninstances = 3", 6),
        ("health.a.memory = 5", 0),
        ("type = 'oneshot'\nschedule.calendar = '1 * * * *'", 4),
        ("type = 'oneshot'\nschedule.every = 1", 0),
        ("hooks.pre_start = '/bin/sh'", 3),
        ("stop.command = '/bin/sh'\nreload.command = '/bin/sh'\ninstances = 2", 7),
        ("reload.signal = 'HUP'", 0),
        ("stop.scope = 'mixed'", 0),
        ("ready.exec = '/bin/sh'", 3),
        ("health.a.exec = '/bin/sh'\nhealth.b.exec = '/bin/sh'\ninstances = 100", 99 + 96),
        ("[metrics]\nlisten = '127.0.0.1:1'", 69),
        ("[supervisor]\nsocket = 'none'", -65),
    ],
)
def test_descriptors_are_counted(tmp_path, text, more):
    assert needed(tmp_path, WEB + text) == PLAIN + more


@pytest.mark.parametrize(
    ("written", "more"),
    [
        ("", 4),
        ("log.to = ['file']", 4),
        ("log.to = ['auto']", 4),
        ("log.to = ['null']", 0),
        ("log.to = ['inherit']", 0),
        ("log = { to = ['direct'], path = '/srv/web' }", 0),
    ],
)
def test_the_pipes_of_captured_output_are_counted(tmp_path, written, more):
    text = f"[service.web]\ncommand = '/bin/sh'\ninstances = 2\n{written}"

    assert needed(tmp_path, text) == PLAIN + 1 + more


CHAIN = (
    "[service.db]\ncommand = '/bin/sh'\nstop_timeout = 40\n"
    "[service.app]\ncommand = '/bin/sh'\nrequires = ['db']\nstop_timeout = {app}\n"
    "[service.web]\ncommand = '/bin/sh'\nafter = ['app']\n"
    "stop.sequence = ['TERM 10s', 'INT 20s']\n"
    "[service.other]\ncommand = '/bin/sh'\nstop_timeout = 70\n"
)


def test_a_chain_of_stops_that_is_too_long_is_told_where_it_takes_longest(tmp_path):
    (problem,) = load_text(tmp_path, CHAIN.format(app=11), all_keys=True).problems

    assert (problem.severity, problem.code, problem.line) == ("warning", "stop-budget", 3)
    assert problem.message == (
        "stop_timeout: to stop web, then app, then db may take 1m21s,"
        " longer than shutdown_timeout (1m20s)"
    )


@pytest.mark.parametrize(("app", "found"), [(10, []), (90, [7])])
def test_a_chain_that_fits_or_that_one_alone_makes_too_long_is_not_told(tmp_path, app, found):
    reply = load_text(tmp_path, CHAIN.format(app=app), all_keys=True)

    assert [problem.line for problem in reply.problems] == found


def test_a_long_chain_is_cut(tmp_path):
    text = "".join(
        f"[service.s{i}]\ncommand = '/bin/sh'\nstop_timeout = 9\nafter = ['s{i + 1}']\n"
        for i in range(9)
    )
    text += "[service.s9]\ncommand = '/bin/sh'\n"
    (problem,) = load_text(tmp_path, text, all_keys=True).problems

    assert "s6, then s7, then … may take 1m21s" in problem.message


EDGES = st.dictionaries(
    st.integers(0, 7), st.lists(st.integers(1, 3), max_size=3).map(set), max_size=8
).map(lambda steps: {str(a): [str(a + step) for step in by] for a, by in steps.items()})


@settings(max_examples=40, deadline=None)
@given(EDGES, st.lists(st.integers(0, 9), min_size=11, max_size=11))
def test_the_longest_chain_is_that_of_all_paths(edges, seconds):
    names = [str(number) for number in range(11)]
    times = dict(zip(names, map(float, seconds), strict=True))
    paths = [
        path
        for size in range(1, 10)
        for path in itertools.combinations(names, size)
        if path[0] in edges and all(b in edges.get(a, ()) for a, b in itertools.pairwise(path))
    ]
    total, chain = longest_chain(edges, times)

    assert total == max((sum(times[name] for name in path) for path in paths), default=0.0)
    assert sum(times[name] for name in chain) == total
    assert all(b in edges[a] for a, b in itertools.pairwise(chain))


def test_a_chain_of_ten_thousand_is_no_trouble():
    edges = {str(number): [str(number + 1)] for number in range(10_000)}

    assert longest_chain(edges, {"9": 1.0, "10000": 2.0})[0] == pytest.approx(3.0)
