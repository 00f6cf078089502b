"""What a service's keys say together: conflicts, and what is likely not meant."""

import re
from collections.abc import Iterable, Mapping

from supervisord_pidfd.config import model
from supervisord_pidfd.config.budgets import longest_chain, stop_time
from supervisord_pidfd.config.fields import CommandLine
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.config.units import format_duration

_SHELL_WORDS = frozenset({"|", "||", "|&", "&&", "&", ";"})
_QUOTED = re.compile(r"""\\.|"(?>[^"\\]+|\\.)*"|'[^']*'""", re.DOTALL)
_SHELL_START = re.compile(r"[0-9]?(?:<<?|>>?)|\$\(|`")
MAX_SHOWN = 8
"""Names of one chain that are printed."""
_REAL_TIME = {"fifo", "rr"}


class Slips:
    """Look at services one by one."""

    def __init__(self, tree: Tree, report: Report, uid: int, budget: float) -> None:
        """Report for a daemon of this user; `budget` is its `shutdown_timeout`."""
        self._tree = tree
        self._report = report
        self._uid = uid
        self._budget = budget

    def look_at(self, name: str, service: model.Service) -> None:
        """Report the conflicts and slips of one service."""
        path = ("service", name)
        self._scheduling(path, service)
        self._command(path, service)
        self._stop(path, service)
        if self._uid != 0:
            self._privileges(path, service)

    def _conflict(self, where: Path, message: str) -> None:
        self._report.error(self._tree.value(where), "conflict", message, key=where)

    def _warn(self, where: Path, code: str, message: str, hint: str | None = None) -> None:
        self._report.warning(self._tree.value(where), code, message, key=where, hint=hint)

    def _scheduling(self, path: Path, service: model.Service) -> None:
        if service.scheduling is None:
            return
        policy, priority = service.scheduling.policy, service.scheduling.priority
        if priority is not None and policy not in _REAL_TIME:
            message = "scheduling.priority: only with scheduling.policy fifo or rr"
            self._conflict((*path, "scheduling", "priority"), message)
        if policy in _REAL_TIME and priority is None:
            message = f"scheduling.policy: '{policy}' needs scheduling.priority"
            self._conflict((*path, "scheduling", "policy"), message)

    def _command(self, path: Path, service: model.Service) -> None:
        word = shell_word(service.command)
        if word:
            message = f"command: '{word}' is passed on as an argument, no shell runs"
            hint = 'write ["sh", "-c", "…"] for a shell'
            self._warn((*path, "command"), "shell-syntax", message, hint)

    def _stop(self, path: Path, service: model.Service) -> None:
        inside, total = stop_time(service)
        if total > self._budget:
            message = (
                f"{'.'.join(map(str, inside))}: {format_duration(total)} is longer than"
                f" shutdown_timeout ({format_duration(self._budget)})"
            )
            self._warn((*path, *inside), "stop-budget", message)

    def look_at_chains(
        self, services: Mapping[str, model.Service], waits: Mapping[str, Iterable[str]]
    ) -> None:
        """Report the longest chain of stops, those that wait before what they wait for."""
        times = {name: stop_time(service)[1] for name, service in services.items()}
        seconds = {name: times[name.partition("@")[0]] for name in waits}
        if not waits or max(seconds.values()) > self._budget:
            return  # nothing is chained, or one alone is too long, which is told
        total, chain = longest_chain(waits, seconds)
        if total <= self._budget:
            return
        slow = [name for name in chain if seconds[name]]
        base = max(slow, key=seconds.__getitem__).partition("@")[0]
        inside, _ = stop_time(services[base])
        names = ", then ".join(slow if len(slow) <= MAX_SHOWN else (*slow[:MAX_SHOWN], "…"))
        message = (
            f"{'.'.join(map(str, inside))}: to stop {names} may take {format_duration(total)},"
            f" longer than shutdown_timeout ({format_duration(self._budget)})"
        )
        self._warn(("service", base, *inside), "stop-budget", message)

    def _privileges(self, path: Path, service: model.Service) -> None:
        wishes: list[tuple[Path, bool]] = [
            (("supplementary_groups",), service.supplementary_groups is not None)
        ]
        scheduling = service.scheduling
        if scheduling is not None:
            wishes += [
                (("scheduling", "nice"), (scheduling.nice or 0) < 0),
                (("scheduling", "oom_score_adjust"), (scheduling.oom_score_adjust or 0) < 0),
                (("scheduling", "policy"), scheduling.policy in _REAL_TIME),
            ]
        for inside, wished in wishes:
            if wished:
                message = f"{'.'.join(map(str, inside))}: needs root"
                self._warn((*path, *inside), "needs-root", message)


def shell_word(command: CommandLine) -> str | None:
    """Return what of a command string only a shell would understand."""
    text = command.text
    if text is None or not any(character in text for character in "|&;<>`$"):
        return None
    for word in _QUOTED.sub("q", text).split():
        start = _SHELL_START.match(word)
        if word in _SHELL_WORDS or start:
            return start[0] if start else word
        if word.endswith(";"):
            return ";"
    return None
