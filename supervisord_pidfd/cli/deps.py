"""`deps`: what needs what, as a tree with phases, as JSON or as a mermaid diagram."""

from collections.abc import Mapping, Sequence
from typing import Any

from supervisord_pidfd.cli.screen import escape
from supervisord_pidfd.cli.session import DONE, Session

Edge = Mapping[str, Any]
Edges = Mapping[str, Sequence[Edge]]


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
    else:
        screen.lines(Tree(session, edges, phases, reverse=reverse).lines(name))
    return DONE


class Tree:
    """Lay edges out as trees; what was shown already is not shown again with all below it."""

    def __init__(
        self, session: Session, edges: Sequence[Edge], phases: Mapping[str, str], *, reverse: bool
    ) -> None:
        self._screen = session.screen
        self._phases = phases
        self._near, self._far = ("to", "from") if reverse else ("from", "to")
        self._below: dict[str, list[Edge]] = {}
        for edge in edges:
            self._below.setdefault(edge[self._near], []).append(edge)
        self._targets = {edge[self._far] for edge in edges}
        self._shown: set[str] = set()
        self._rows: list[list[str]] = []

    def lines(self, name: str | None) -> list[str]:
        """Return the trees below a service (all its instances), or below all that stand on top."""
        for root in self._roots(name):
            self._row(root, root)
            self._walk(root, "", (root,))
        return self._screen.table(None, self._rows, phase=1)

    def _roots(self, name: str | None) -> list[str]:
        if name is None:
            every = sorted({*self._phases, *self._below, *self._targets})
            return [one for one in every if one not in self._targets]
        named = [one for one in sorted(self._phases) if one.partition("@")[0] == name]
        return named if named and name not in self._phases else [name]

    def _row(self, name: str, shown: str, *rest: str) -> None:
        self._rows.append([shown, self._phases.get(name, "?"), *(rest or ("", ""))])

    def _walk(self, name: str, indent: str, path: tuple[str, ...]) -> None:
        edges = self._below.get(name, [])
        for index, edge in enumerate(edges):
            far = str(edge[self._far])
            last = index == len(edges) - 1
            again = far in self._shown and far in self._below
            mark = "" if edge["met"] else "not "
            self._row(
                far, f"{indent}{'└─ ' if last else '├─ '}{far}", _how(edge),
                f"{mark}met" + ("  (see above)" if again else ""),
            )  # fmt: skip
            if not again and far not in path:
                self._shown.add(far)
                self._walk(far, indent + ("   " if last else "│  "), (*path, far))


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
