"""How a shutdown's budget is shared along chains."""

from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.planner import Graph
from supervisord_pidfd.core.shares import Share, shares
from tests.unit.test_planner import acyclic, after, requires, service

INFINITE = float("inf")


def chain(*timeouts):
    names = [f"s{n}" for n in range(len(timeouts))]
    specs = {
        name: service(name, *([requires(names[n - 1])] if n else ()))
        for n, name in enumerate(names)
    }
    return Graph(specs), dict(zip(names, timeouts, strict=True))


def test_who_depends_on_nobody_has_all_of_the_budget():
    assert shares(*chain(10.0), 78.0) == {"s0": Share(68.0, 78.0)}


def test_a_chain_that_fits_leaves_each_its_own_time_at_the_end():
    assert shares(*chain(10.0, 20.0, 5.0), 60.0) == {
        "s0": Share(50.0, 60.0),
        "s1": Share(30.0, 50.0),
        "s2": Share(25.0, 30.0),
    }


def test_a_chain_that_does_not_fit_is_cut_in_proportion():
    assert shares(*chain(10.0, 15.0), 20.0) == {
        "s0": Share(12.0, 20.0),
        "s1": Share(0.0, 12.0),
    }


def test_a_service_that_may_take_for_ever_counts_as_the_whole_budget():
    assert shares(*chain(INFINITE, INFINITE), 8.0) == {
        "s0": Share(4.0, 8.0),
        "s1": Share(0.0, 4.0),
    }


def test_without_services_or_time_there_is_nothing_to_share():
    assert shares(Graph({}), {}, 8.0) == {}
    assert shares(*chain(0.0), 8.0) == {"s0": Share(8.0, 8.0)}


def test_a_target_that_is_not_there_takes_no_time():
    graph = Graph({"web": service("web", after("gone"))})

    assert shares(graph, {"web": 5.0}, 8.0) == {"web": Share(3.0, 8.0)}


@given(acyclic(), st.lists(st.floats(0, 100), min_size=8, max_size=8), st.floats(0.1, 50))
def test_nobody_is_asked_before_its_dependents_are_killed(specs, timeouts, budget):
    graph = Graph(specs)
    given_timeouts = dict(zip(specs, timeouts, strict=False))
    parts = shares(graph, given_timeouts, budget)

    for name, part in parts.items():
        assert 0 <= part.ask_by <= part.kill_by <= budget + 1e-9
        for dependency in graph.needs(name):
            if dependency.target in parts:
                assert part.kill_by <= parts[dependency.target].ask_by + 1e-9
