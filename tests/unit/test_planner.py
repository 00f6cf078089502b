"""The graph: cycles, who is met, what starts and stops with what, and what it costs."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.core.planner import ABSENT, Graph, View, find_cycle, holds_back, is_met
from supervisord_pidfd.core.spec import Condition, Dependency, ServiceSpec, Tie


def service(name, *dependencies, part_of=()):
    return ServiceSpec(
        name, ("/srv/" + name,), dependencies=tuple(dependencies), part_of=tuple(part_of)
    )


def requires(target, condition=Condition.READY):
    return Dependency(target, Tie.REQUIRES, condition)


def wants(target):
    return Dependency(target, Tie.WANTS)


def after(target):
    return Dependency(target, Tie.AFTER)


def graph(*specs):
    return Graph({spec.name: spec for spec in specs})


# -- cycles ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edges", "cycle"),
    [
        ({}, None),
        ({"a": ["b"], "b": []}, None),
        ({"a": ["b"]}, None),
        ({"a": ["a"]}, ("a", "a")),
        ({"a": ["b"], "b": ["a"]}, ("a", "b", "a")),
        ({"x": ["a"], "a": ["b"], "b": ["c"], "c": ["a"]}, ("a", "b", "c", "a")),
        ({"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}, None),
    ],
)
def test_a_cycle_is_the_path_back_to_where_it_began(edges, cycle):
    assert find_cycle(edges) == cycle


@given(st.dictionaries(st.integers(0, 7), st.lists(st.integers(0, 7), max_size=4), max_size=8))
def test_a_cycle_is_found_where_brute_force_finds_one(edges):
    def closure():
        reach = {(a, b) for a, targets in edges.items() for b in targets}
        while True:
            more = reach | {(a, d) for a, b in reach for c, d in reach if b == c}
            if more == reach:
                return reach
            reach = more

    found = find_cycle(edges)
    assert (found is not None) == any(a == b for a, b in closure())
    if found is not None:
        assert found[0] == found[-1]
        assert len(set(found)) == len(found) - 1
        assert all(b in edges[a] for a, b in itertools.pairwise(found))


# -- conditions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("condition", Condition)
def test_each_condition_reads_its_own_fact(condition):
    others = View(**{name: name != condition.value for name in Condition}, gone=False)
    alone = View(**{condition.value: True}, gone=False)

    assert not is_met(requires("db", condition), others)
    assert is_met(requires("db", condition), alone)


@pytest.mark.parametrize(
    ("tie", "gone", "held"),
    [
        (Tie.REQUIRES, False, True),
        (Tie.REQUIRES, True, True),
        (Tie.WANTS, False, True),
        (Tie.WANTS, True, False),
        (Tie.AFTER, False, True),
        (Tie.AFTER, True, False),
    ],
)
def test_only_requires_waits_for_one_that_gave_up(tie, gone, held):
    assert holds_back(Dependency("db", tie), View(gone=gone)) is held


def test_what_does_not_exist_has_given_up():
    assert holds_back(requires("db"), ABSENT)
    assert not holds_back(wants("db"), ABSENT)


# -- sets -----------------------------------------------------------------------------------------


def test_a_start_takes_along_what_is_required_and_wanted_but_not_what_only_comes_before():
    g = graph(
        service("web", requires("api"), after("cache")),
        service("api", wants("db")),
        service("db", after("disk")),
        service("cache"),
        service("disk"),
    )

    assert g.starts_with(["web"]) == ("db", "api", "web")


def test_order_only_still_orders_what_starts_for_another_reason():
    g = graph(service("a", after("b")), service("b"), service("top", requires("a"), requires("b")))

    assert g.starts_with(["top"]) == ("b", "a", "top")
    assert g.starts_with(["a", "b"]) == ("b", "a")


def test_a_stop_takes_along_who_requires_it_or_is_part_of_it_first():
    g = graph(
        service("db"),
        service("api", requires("db")),
        service("web", requires("api")),
        service("log", wants("db")),
        service("side", part_of=["api"]),
    )

    stops = g.stops_with(["db"])
    assert list(stops) in (["side", "web", "api", "db"], ["web", "side", "api", "db"])
    assert stops == {"db": None, "api": "db", "web": "api", "side": "api"}


def test_a_crash_is_repeated_by_parts_alone():
    g = graph(
        service("db"),
        service("api", requires("db")),
        service("side", part_of=["db"]),
        service("inner", part_of=["side"]),
    )

    assert g.parts_of(["db"]) == {"db": None, "side": "db", "inner": "side"}


def test_what_is_part_of_two_things_is_reached_once():
    g = graph(
        service("db"),
        service("left", part_of=["db"]),
        service("right", part_of=["db"]),
        service("both", part_of=["left", "right"]),
    )

    assert set(g.parts_of(["db"])) == {"db", "left", "right", "both"}


def test_order_sees_through_services_that_are_not_asked_about():
    g = graph(service("web", after("mid")), service("mid", requires("db")), service("db"))

    assert g.order(["web", "db"]) == ("db", "web")


def test_unrelated_names_keep_their_order():
    g = graph(service("a"), service("b"), service("c"))

    assert g.order(["c", "a", "b"]) == ("c", "a", "b")


NAMES = [f"s{number}" for number in range(9)]


@st.composite
def acyclic(draw):
    """Build specs whose edges all point to earlier names, listed in whatever order."""
    specs = []
    for index, name in enumerate(NAMES):
        targets = draw(st.lists(st.sampled_from(NAMES[:index]), max_size=3)) if index else []
        ties = [draw(st.sampled_from(Tie)) for _ in targets]
        edges = tuple(Dependency(target, tie) for target, tie in zip(targets, ties, strict=True))
        parts = tuple(draw(st.lists(st.sampled_from(NAMES), max_size=1)))
        specs.append(service(name, *edges, part_of=parts))
    return {spec.name: spec for spec in draw(st.permutations(specs))}


def paths(specs):
    """Return every (waits, waited for), also over others."""
    reach = {(spec.name, edge.target) for spec in specs.values() for edge in spec.dependencies}
    while True:
        more = reach | {(a, d) for a, b in reach for c, d in reach if b == c}
        if more == reach:
            return reach
        reach = more


@given(acyclic(), st.lists(st.sampled_from(NAMES), unique=True))
def test_every_stop_order_is_a_reverse_topological_order(specs, names):
    g = Graph(specs)
    place = {name: at for at, name in enumerate(g.stops_with(names))}

    assert set(names) <= set(place)
    for waits, waited_for in paths(specs):
        if waits in place and waited_for in place:
            assert place[waits] < place[waited_for]


@given(acyclic(), st.lists(st.sampled_from(NAMES), unique=True))
def test_every_start_order_is_a_topological_order_of_all_that_is_needed(specs, names):
    g = Graph(specs)
    place = {name: at for at, name in enumerate(g.starts_with(names))}

    assert set(names) <= set(place)
    for name in place:
        for edge in specs[name].dependencies:
            assert edge.tie is Tie.AFTER or edge.target in place
    for waits, waited_for in paths(specs):
        if waits in place and waited_for in place:
            assert place[waited_for] < place[waits]


# -- cost -----------------------------------------------------------------------------------------


class Counting(tuple):  # noqa: SLOT001 - a test may
    """Be a tuple of edges that counts how many are looked at."""

    looked = 0

    def __iter__(self):
        for edge in super().__iter__():
            Counting.looked += 1
            yield edge


def wide(count):
    """Describe `count` services with up to four edges each, among them one long chain."""
    specs = {}
    for number in range(count):
        targets = {number - 1, number // 2, number // 3, number - 7} - {number}
        edges = [requires(f"s{target}") for target in sorted(targets) if target >= 0]
        specs[f"s{number}"] = service(f"s{number}")._replace(dependencies=Counting(edges))
    return specs


@pytest.mark.parametrize("count", [500, 1000, 2000, 4000])
def test_the_planner_looks_at_each_edge_a_bounded_number_of_times(count):
    specs = wide(count)
    edges = sum(len(spec.dependencies) for spec in specs.values())
    Counting.looked = 0

    g = Graph(specs)
    assert len(g.starts_with([f"s{count - 1}"])) == count
    assert len(g.stops_with(["s0"])) == count
    assert find_cycle({name: Counting(e.target for e in g.needs(name)) for name in specs}) is None
    assert edges <= Counting.looked <= 6 * edges


def test_a_chain_of_ten_thousand_does_not_exhaust_the_stack():
    specs = {"s0": service("s0")}
    for number in range(1, 10_000):
        specs[f"s{number}"] = service(f"s{number}", requires(f"s{number - 1}"))
    g = Graph(specs)

    assert g.starts_with(["s9999"])[0] == "s0"
    assert next(iter(g.stops_with(["s0"]))) == "s9999"
    assert find_cycle({name: [e.target for e in g.needs(name)] for name in specs}) is None
