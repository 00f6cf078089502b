"""`deps` as a tree, as JSON and as a diagram."""

import itertools

import pytest

from tests.support.scripted import Scripted, service, status


def edge(source, target, kind="requires", condition="ready", *, met=True):
    return {"from": source, "to": target, "kind": kind, "condition": condition, "met": met}


EDGES = [
    edge("report", "worker@0", met=False),
    edge("report", "web", "wants"),
    edge("worker@0", "db"),
]
STATUS = status(
    service("report", "waiting"), service("worker@0", "backoff"), service("db"), service("web"),
    service("alone", "stopped"),
)  # fmt: skip


def daemon(edges=EDGES):
    known = {one["name"] for one in STATUS["services"]}
    ends = {name for one in edges for name in (one["from"], one["to"])}
    more = [service(name) for name in sorted(ends - known)]
    every = {**STATUS, "services": [*STATUS["services"], *more]}
    return Scripted(Dependencies={"edges": edges}, Status=every)


def test_a_tree_with_phases(pidfdctl):
    asked = daemon()
    ran = pidfdctl(asked, "deps", "report")

    assert ran.lines == [
        "report       waiting",
        "├─ worker@0  backoff  requires, ready  not met",
        "│  └─ db     running  requires, ready  met",
        "└─ web       running  wants, ready     met",
    ]
    assert asked.calls[0] == ("Dependencies", {"name": "report"})


def test_without_a_name_every_tree(pidfdctl):
    ran = pidfdctl(daemon(), "graph")

    assert [line.split()[0] for line in ran.lines if line[0] not in "├│└"] == ["alone", "report"]


def test_what_needs_a_service(pidfdctl):
    asked = daemon()
    ran = pidfdctl(asked, "deps", "db", "--reverse")

    assert ran.lines == [
        "db            running",
        "└─ worker@0   backoff  requires, ready  met",
        "   └─ report  waiting  requires, ready  not met",
    ]
    assert asked.calls[0] == ("Dependencies", {"name": "db", "reverse": True})


def test_a_base_name_has_a_tree_for_each_instance(pidfdctl):
    asked = Scripted(
        Dependencies={"edges": [edge("w@0", "db"), edge("w@1", "db")]},
        Status=status(service("w@0"), service("w@1")),
    )
    ran = pidfdctl(asked, "deps", "w")

    assert [line.split()[0] for line in ran.lines] == ["w@0", "└─", "w@1", "└─"]
    assert asked.last == {"names": ["w"]}


def test_what_was_shown_is_not_unfolded_again(pidfdctl):
    diamond = [edge("a", "b"), edge("a", "c"), edge("b", "d"), edge("c", "d"), edge("d", "e")]
    ran = pidfdctl(daemon(diamond), "deps", "a")

    assert sum(" e " in line for line in ran.lines) == 1
    assert sum("(see above)" in line for line in ran.lines) == 1


def test_many_layers_take_linear_time(pidfdctl):
    layers = [[f"n{layer}x{n}" for n in range(8)] for layer in range(12)]
    edges = [
        edge(upper, lower)
        for above, below in itertools.pairwise(layers)
        for upper in above
        for lower in below
    ]
    ran = pidfdctl(daemon(edges), "deps", "n0x0")

    assert len(ran.lines) <= len(edges) + 1  # 8^11 paths lead to the bottom


@pytest.mark.parametrize("words", [["--json"], ["--format", "json"]])
def test_as_json(pidfdctl, words):
    assert pidfdctl(daemon(), "deps", *words).json == {"format": 1, "edges": EDGES}


def test_a_long_chain_and_a_ring(pidfdctl):
    chain = [edge(f"n{n}", f"n{n + 1}") for n in range(3000)]
    ring = [edge("a", "b", "part_of"), edge("b", "a", "part_of")]

    assert len(pidfdctl(daemon(chain), "deps", "n0").lines) == 3001
    assert [line.split()[-1] for line in pidfdctl(daemon(ring), "deps", "a").lines] == [
        "running", "met", "above)"
    ]  # fmt: skip


def test_as_a_diagram(pidfdctl):
    ran = pidfdctl(daemon(), "deps", "report", "--format", "mermaid")

    assert ran.lines[0] == "graph TD"
    assert '  n2["report<br/>waiting"]' in ran.lines
    assert "  n2 -->|requires, ready| n4" in ran.lines
    assert "  n2 -.->|wants, ready| n3" in ran.lines
