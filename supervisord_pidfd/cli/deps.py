"""`deps`: what needs what, as a tree with phases, as JSON or as a mermaid diagram."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from supervisord_pidfd.cli.screen import escape
from supervisord_pidfd.cli.session import DONE, Session

Edge = Mapping[str, Any]


def deps(session: Session) -> int:
    """Show the dependencies of one service, or of all."""
    words, screen = session.words, session.screen
    name = words.operands[0] if words.operands else None
    reverse = words.has("reverse")
    reply = session.call("Dependencies", {"name": name, "reverse": reverse or None})
    form = words.text("format") or "tree"
    if screen.as_json or form == "json":
        screen.object({"format": 1, **reply})
        return DONE
    edges = reply["edges"]
    phases = {one["name"]: one["phase"] for one in session.call("Status")["services"]}
    if form == "mermaid":
        screen.lines(mermaid(edges, phases))
        return DONE
    tree = Tree(edges, phases, reverse=reverse)
    tops = _named(session, name, phases) if name is not None else tree.tops()
    screen.lines(screen.table(None, tree.rows(tops), phase=1))
    return DONE


def _named(session: Session, name: str, phases: Mapping[str, str]) -> list[str]:
    """Return the services that a name stands for: `worker`, `web*`, `@backend`."""
    if name in phases:
        return [name]
    services = session.call("Status", {"names": [name]})["services"]
    return sorted(str(one["name"]) for one in services)


class Tree:
    """Lay edges out as trees; what was shown already is not shown again with all below it."""

    def __init__(self, edges: Sequence[Edge], phases: Mapping[str, str], *, reverse: bool) -> None:
        self._phases = phases
        self._near, self._far = ("to", "from") if reverse else ("from", "to")
        self._below: dict[str, list[Edge]] = {}
        for edge in edges:
            self._below.setdefault(edge[self._near], []).append(edge)
        self._unfolded: set[str] = set()

    def tops(self) -> list[str]:
        """Return what nothing else stands above; a ring of `part_of` has none, and is let be."""
        below = {edge[self._far] for edges in self._below.values() for edge in edges}
        return [name for name in sorted(self._phases) if name not in below]

    def rows(self, tops: Sequence[str]) -> list[list[str]]:
        """Return the rows of the trees below these."""
        rows = []
        for top in tops:
            rows.append([top, self._phases.get(top, "?"), "", ""])
            rows += self._below_of(top)
        return rows

    def _below_of(self, top: str) -> Iterator[list[str]]:
        """Walk in the order of the rows; without recursion, for a chain may be long."""
        left = list(self._children(top, ""))
        while left:
            edge, branch, indent = left.pop()
            name = str(edge[self._far])
            again = name in self._unfolded and name in self._below
            met = ("met" if edge["met"] else "not met") + ("  (see above)" if again else "")
            yield [f"{branch}{name}", self._phases.get(name, "?"), _how(edge), met]
            if not again:
                left += self._children(name, indent)

    def _children(self, name: str, indent: str) -> Iterator[tuple[Edge, str, str]]:
        """Give what is below, the last first, with what is drawn before it and before its own."""
        self._unfolded.add(name)
        marks = ("└─ ", "   ")
        for edge in reversed(self._below.get(name, [])):
            yield edge, indent + marks[0], indent + marks[1]
            marks = ("├─ ", "│  ")


def _how(edge: Edge) -> str:
    kind, condition = str(edge["kind"]), edge.get("condition")
    return f"{kind}, {condition}" if condition and kind != "part_of" else kind


def mermaid(edges: Sequence[Edge], phases: Mapping[str, str]) -> list[str]:
    """Write a mermaid flowchart; a dashed arrow does not have to be met."""
    names = sorted({*phases, *(edge[end] for edge in edges for end in ("from", "to"))})
    number = {name: f"n{index}" for index, name in enumerate(names)}
    lines = ["graph TD"]
    lines += [
        f'  {number[name]}["{_label(name)}<br/>{_label(phases.get(name, "?"))}"]' for name in names
    ]
    for edge in edges:
        arrow = "-->" if edge["kind"] == "requires" else "-.->"
        lines.append(
            f"  {number[edge['from']]} {arrow}|{_label(_how(edge))}| {number[edge['to']]}"
        )
    return lines


def _label(text: str) -> str:
    return escape(text).replace('"', "#quot;").replace("<", "#lt;").replace("|", "#124;")
