"""Problems of a configuration, as the daemon answers them, written as `check` writes them."""

from collections.abc import Mapping, Sequence
from typing import Any

from supervisord_pidfd.cli.screen import escape, plural


def render(problems: Sequence[Mapping[str, Any]]) -> str:
    """Write problems as text: each with its place and source line, then the counts."""
    errors = sum(one["severity"] == "error" for one in problems)
    files = len({one["file"] for one in problems})
    warnings = len(problems) - errors
    counts = (
        f"{plural(errors, 'error')}, {plural(warnings, 'warning')} in {plural(files, 'file')}\n"
    )
    return "".join(map(_one, problems)) + counts


def _one(problem: Mapping[str, Any]) -> str:
    hint = f" ({problem['hint']})" if problem.get("hint") else ""
    place = f"{problem['file']}:{problem['line']}:{problem['column']}"
    text = f"{place}: {problem['severity']}: {problem['message']}{hint} [{problem['code']}]"
    lines = [escape(text)]
    if problem.get("source") is not None:
        lines.append(f"{problem['line']:>5} | {escape(problem['source'], keep=chr(9))}")
    lines += [escape(f"see also {other}") for other in problem.get("see_also") or ()]
    return "\n".join(lines) + "\n"
