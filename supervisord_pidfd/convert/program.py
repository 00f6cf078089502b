"""One `[program:x]` of Supervisor to one service: every option, in a fixed order.

What Supervisor does by default and we do not is written into `[defaults]` by `supervisor.py`, so
only what the program itself says stands in its table.
"""

import math
import os
import shlex
from collections.abc import Callable, Iterable
from typing import NamedTuple

from supervisord_pidfd.config.units import format_duration
from supervisord_pidfd.convert import text as words
from supervisord_pidfd.convert.draft import Table
from supervisord_pidfd.convert.expressions import Expressions, variables
from supervisord_pidfd.convert.ini import Section
from supervisord_pidfd.convert.output import Output
from supervisord_pidfd.convert.source import YES_NO, Option, number, one_of
from supervisord_pidfd.convert.text import Marks, NotConvertibleError

BACKOFF = 1.0
"""Seconds that Supervisor waits before its second start in a row."""


class Place(NamedTuple):
    """Hold what a program's values are filled in with, and the names of variables it sets."""

    expressions: Expressions
    own: frozenset[str]


def write(table: Table, section: Section, place: Place) -> None:
    """Write the service of a program into its table; without a command it is left out."""
    _Program(table, section, place).write()


class _Program:
    """Take the options of one program one by one; what nobody took is told at the end."""

    def __init__(self, table: Table, section: Section, place: Place) -> None:
        self._table = table
        self._left = dict(section.options)
        self._place = place

    def write(self) -> None:
        for name in _SILENT:
            self._left.pop(name, None)
        for name, does in _OPTIONS.items():
            option = self._left.pop(name, None)
            if option is not None:
                self._told(option, does)
        self._starts()
        self._stop_scope()
        Output(self._table, self._left, self.filled).write()
        for option in self._left.values():
            why = _ADVICE.get(option.name, "Supervisor has no such option")
            if option.name not in _UNLESS or one_of(option.value, YES_NO) is not False:
                self._table.lost(option, why)

    def _told(self, option: Option, does: "Callable[[_Program, Option], None]") -> None:
        try:
            does(self, option)
        except NotConvertibleError as error:
            self._table.lost(option, str(error))

    # -- values -----------------------------------------------------------------------------------

    def filled(self, option: Option) -> str:
        """Return a value as it is written where `${}` is filled in."""
        marks = Marks(option.value)
        return marks.fill(self._place.expressions.expand(option.value, marks))

    def plain(self, option: Option) -> str:
        """Return a value that stands where nothing is filled in."""
        marks = Marks(option.value)
        return marks.plain(self._place.expressions.expand(option.value, marks)).strip()

    def whole(self, option: Option) -> int:
        """Return a whole number."""
        found = number(self.plain(option))
        if found is None:
            raise NotConvertibleError("not a whole number")
        return found

    def flag(self, option: Option) -> bool:
        """Return yes or no."""
        found = one_of(self.plain(option), YES_NO)
        if found is None:
            raise NotConvertibleError("neither true nor false")
        return found

    # -- options ----------------------------------------------------------------------------------

    def command(self, option: Option) -> None:
        """Split the line as Supervisor does; no shell runs there either."""
        marks = Marks(option.value)
        line = words.split(self._place.expressions.expand(option.value, marks))
        filled = [marks.fill(word) for word in line]
        if filled[0].startswith("~"):
            filled[0] = os.path.expanduser(filled[0])
        self._table.set("command", words.command(filled), option)

    def directory(self, option: Option) -> None:
        """Write the directory, `~` filled in."""
        self._table.set("directory", os.path.expanduser(self.filled(option)), option)

    def user(self, option: Option) -> None:
        """Write the user."""
        self._table.set("user", self.filled(option), option)

    def umask(self, option: Option) -> None:
        """Write the mask."""
        self._table.set("umask", self.plain(option), option)

    def autostart(self, option: Option) -> None:
        """Write whether it is wanted up at first, which is usual."""
        if not self.flag(option):
            self._table.set("autostart", False, option)

    def autorestart(self, option: Option) -> None:
        """Translate the policy."""
        value = self.plain(option).lower()
        policy = "on-failure" if value == "unexpected" else None
        if policy is None:
            policy = "always" if self.flag(option) else "no"
        self._table.set("restart", policy, option)

    def exitcodes(self, option: Option) -> None:
        """Write the clean ends."""
        codes = [number(code, 0, 255) for code in self.plain(option).split(",") if code.strip()]
        if None in codes:
            raise NotConvertibleError("not a list of exit codes")
        self._table.set("success_exit_codes", codes, option)

    def stopsignal(self, option: Option) -> None:
        """Write the first signal of a stop."""
        self._table.set("stop_signal", self.plain(option).upper().removeprefix("SIG"), option)

    def stopwaitsecs(self, option: Option) -> None:
        """Write how long a stop may take."""
        self._table.set("stop_timeout", format_duration(self.whole(option)), option)

    def environment(self, option: Option) -> None:
        """Write the variables; those that Supervisor takes from its own environment stay that."""
        write_environment(self._table, option, self._place.expressions, self._place.own)

    def _starts(self) -> None:
        """Translate how long it must stay up, and how often it may fail to."""
        seconds, option = 1.0, self._left.pop("startsecs", None)
        if option is not None:
            found = number(option.value)
            if found is None:
                self._table.lost(option, "not a whole number")
            else:
                seconds = float(found)
                if found:  # 0: ready when executed, as usual
                    self._table.set("ready.delay", format_duration(seconds), option)
        retries = self._left.pop("startretries", None)
        if retries is None:
            if seconds > 1:
                self._table.usual("start_limit.interval", limit_interval(3, seconds), "")
            return
        count = number(retries.value)
        if not count:
            self._table.lost(retries, 'a limit is at least 1: write restart = "no"')
            return
        if self._table.set("start_limit.burst", count, retries):
            self._table.set("start_limit.interval", limit_interval(count, seconds), retries)

    def _stop_scope(self) -> None:
        """Translate who gets the signals; the defaults say `mixed`, main process first."""
        group, kill = self._left.pop("stopasgroup", None), self._left.pop("killasgroup", None)
        for option in (group, kill):
            if option is not None and one_of(option.value, YES_NO) is None:
                self._table.lost(option, "neither true nor false")
            elif option is group and option is not None and one_of(option.value, YES_NO):
                self._table.set("stop.scope", "auto", option)


def limit_interval(count: int, seconds: float) -> str:
    """Return the time in which so many failed starts in a row fit, with our waits between them.

    Supervisor counts starts that did not stay up; we count restarts in a window. In this window
    as many fit only if none stayed up.
    """
    waits = sum(min(30.0, BACKOFF * 2.0**tried) for tried in range(min(count - 1, 60)))
    waits += 30.0 * max(0, count - 61)
    return format_duration(min(math.ceil(waits * 1.1 + (count + 1) * seconds), 10 * 365 * 86400))


def write_environment(
    table: Table, option: Option, expressions: Expressions, clash: Iterable[str]
) -> None:
    """Write `KEY=value,KEY2="value"` as variables.

    `clash` are variables that are set in our file: a `${}` would find those, and not what
    Supervisor had itself; only a variable that names itself means the outer one.

    Raises:
        NotConvertibleError: It is no such list.
    """
    marks = Marks(option.value)
    pairs = parse_environment(expressions.expand(option.value, marks))
    for name, value in pairs.items():
        filled = marks.fill(value)
        taken = {mark[2:-1] for mark in marks.meant_in(value)} - {name}
        if marks.within(name):
            table.lost(option, "a variable cannot stand in a name")
        elif taken & set(clash):
            table.lost(option, f"{name}: takes in a variable that is set anew here")
        else:
            table.put(("environment", name), filled, option)


def parse_environment(text: str) -> dict[str, str]:
    """Return the variables of a list as Supervisor reads it.

    Raises:
        NotConvertibleError: It is no such list.
    """
    lexer = shlex.shlex(text)
    lexer.wordchars += "/.+-():"
    try:
        tokens = list(lexer)
    except ValueError as error:
        raise NotConvertibleError(str(error).lower()) from None
    found: dict[str, str] = {}
    for at in range(0, len(tokens), 4):
        if len(tokens) < at + 3 or tokens[at + 1] != "=":
            raise NotConvertibleError("not a list of KEY=value")
        found[tokens[at]] = tokens[at + 2].strip("'\"")
    return found


def set_names(option: Option | None) -> frozenset[str]:
    """Return the names of the variables that a list sets; none if it cannot be read."""
    if option is None:
        return frozenset()
    text = option.value.replace("%", "")
    try:
        return frozenset(parse_environment(text))
    except NotConvertibleError:
        return frozenset(variables(option.value))


_SILENT = ("process_name", "numprocs", "numprocs_start", "priority")
"""Read by `supervisor.py`, which knows all programs."""

_OPTIONS: "dict[str, Callable[[_Program, Option], None]]" = {
    "command": _Program.command, "directory": _Program.directory, "user": _Program.user,
    "umask": _Program.umask, "environment": _Program.environment,
    "autostart": _Program.autostart, "autorestart": _Program.autorestart,
    "exitcodes": _Program.exitcodes, "stopsignal": _Program.stopsignal,
    "stopwaitsecs": _Program.stopwaitsecs,
}  # fmt: skip

_UNLESS = {"stdout_events_enabled", "stderr_events_enabled"}
"""Options that ask for nothing when they are off."""

_ADVICE = {
    "serverurl": "services are not told of the control socket; it is where pidfdctl looks",
    "stdout_events_enabled": "follow them with: pidfdctl logs -f",
    "stderr_events_enabled": "follow them with: pidfdctl logs -f",
    "stdout_capture_maxbytes": "there is no capture mode: pidfdctl logs",
    "stderr_capture_maxbytes": "there is no capture mode: pidfdctl logs",
}
