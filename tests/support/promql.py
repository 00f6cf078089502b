"""Read the shipped rules and queries as far as tests need it: which metrics do they name?"""

import re
from pathlib import Path

from supervisord_pidfd.core.metrics import METRICS, Kind

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus/supervisord.rules.yml"

_WORDS = {
    "and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right",
    "offset", "bool",
}  # fmt: skip
_OF_PROMETHEUS = {"up"}


def metrics_in(query: str) -> set[str]:
    """Name the metrics of a query: what is neither a function, nor a label, nor a string."""
    query = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    query = re.sub(r"\{[^}]*\}|\[[^\]]*\]", " ", query)
    query = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", query)
    words = re.findall(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:]*\s*\()", query)
    return {word for word in words if word not in _WORDS}


def labels_in(query: str) -> set[str]:
    """Name the labels that a query selects by, or groups by."""
    bare = re.sub(r'"(?:[^"\\]|\\.)*"', '""', query)
    selectors = re.findall(r"\{[^}]*\}", bare)
    selected = [re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", part) for part in selectors]
    grouped = re.findall(r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)", bare)
    return {label for part in selected for label in part} | {
        label.strip() for part in grouped for label in part.split(",") if label.strip()
    }


def exported() -> set[str]:
    """Name every metric that a query may ask for: the rows, and the parts of histograms."""
    found = set(_OF_PROMETHEUS)
    for metric in METRICS:
        if metric.kind is Kind.HISTOGRAM:
            found |= {f"{metric.name}_{part}" for part in ("bucket", "sum", "count")}
        else:
            found.add(metric.name)
    return found


def recorded() -> set[str]:
    """Name what the shipped rules record."""
    return set(re.findall(r"- record: (\S+)", RULES.read_text()))


def rules() -> dict[str, str]:
    """Return the text of each shipped rule, by the name of the alert or of what is recorded."""
    parts = re.split(r"^ +- (?:record|alert): (\S+)\n", RULES.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def expression(rule: str) -> str:
    """Return the expression of a rule's text."""
    found = re.search(r"^( +)expr: (?:\|\n((?:\1 +.*\n|\n)+)|(.*)\n)", rule, re.MULTILINE)
    assert found, rule
    return found[2] or found[3]
