"""supervisord.conf to a draft: what concerns the whole file, and which programs there are."""

import itertools
import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from supervisord_pidfd.config.fields import NAME
from supervisord_pidfd.convert import ini, program
from supervisord_pidfd.convert import text as words
from supervisord_pidfd.convert.draft import Draft
from supervisord_pidfd.convert.expressions import Expressions, number_formats
from supervisord_pidfd.convert.ini import Section
from supervisord_pidfd.convert.output import size
from supervisord_pidfd.convert.source import YES_NO, Option, Reader, number, one_of
from supervisord_pidfd.convert.text import Marks, NotConvertibleError

MAX_PROCESSES = 10_000
MAX_ORDER = 1000
"""References that may say in which order programs start; more are no order anybody reads."""
_USUAL_PRIORITY = 999


class Program(NamedTuple):
    """Hold one program: its section, the services it becomes, and where it stands in the order."""

    section: Section
    services: tuple[str, ...]
    priority: int
    option: Option | None


def convert(text: str, file: str, read: Reader, draft: Draft) -> None:
    """Convert a file, and those it includes, into the draft.

    Raises:
        SourceError: A file cannot be read, or is no such file.
    """
    _File(ini.with_included(ini.parse(text, file), read), draft).write()


class _File:
    def __init__(self, sections: list[Section], draft: Draft) -> None:
        self._sections = sections
        self._draft = draft
        self._names, self._groups = words.Names(), words.Names()
        self._programs: dict[str, Program] = {}
        self._set = frozenset[str]().union(
            *(program.set_names(one.options.get("environment")) for one in sections)
        )

    def write(self) -> None:
        """Write all sections."""
        self._defaults()
        for section in self._sections:
            kind, _, name = section.name.partition(":")
            if kind == "program" and name:
                self._program(section, name.strip())
        for section in self._sections:
            kind, colon, name = section.name.partition(":")
            if kind == "group" and name:
                self._group(section, name.strip())
            elif kind != "program":
                self._other(section, kind if colon else section.name)
        self._order()

    def _defaults(self) -> None:
        table = self._draft.table("defaults")
        table.comment("how Supervisor does it, where it is done otherwise here")
        table.usual("success_signals", [], "an end by a signal is never expected")
        table.usual("stop.scope", "mixed", "a stop signals the main process alone")
        table.usual("backoff.delay", "1s", "")
        table.usual("start_limit.burst", 3, "startretries")
        table.usual("start_limit.interval", program.limit_interval(3, 1.0), "")

    # -- programs ---------------------------------------------------------------------------------

    def _program(self, section: Section, name: str) -> None:
        count = self._whole(section, "numprocs", 1, MAX_PROCESSES)
        start = self._whole(section, "numprocs_start", 0, MAX_PROCESSES)
        if count is None or start is None:
            return
        given: list[str] = []
        known: dict[str, str | int] = {
            "program_name": name, "group_name": self._group_of(name), "here": section.here,
            "numprocs": count,
        }  # fmt: skip
        if "command" not in section.options:
            self._draft.table().lost(section.header, "it has no command")
            return
        copies = _copies(section, count, start)
        if count > 1 and copies is None:
            for at in range(start, start + count):
                given += self._service(section, f"{name}-{at}", Expressions(known, at), None)
        else:
            number_text = "${service.instance}" if count > 1 else start
            given += self._service(section, name, Expressions(known, number_text), copies)
        if len(given) > 1 and self._group_of(name) == name:
            group = self._draft.table("group", self._groups.give(name))
            group.set("services", given, section.header)
        priority = section.options.get("priority")
        rank = number(priority.value, -(2**31)) if priority else _USUAL_PRIORITY
        if priority and rank is None:
            self._draft.table().lost(priority, "not a whole number")
        self._programs[name] = Program(
            section, tuple(given), _USUAL_PRIORITY if rank is None else rank, priority
        )

    def _service(
        self, section: Section, wish: str, expressions: Expressions, copies: list[str] | int | None
    ) -> list[str]:
        """Write one service; return its name, or nothing if it could not be."""
        name = self._names.give(wish)
        table = self._draft.table("service", name)
        if name != wish:
            table.note(section.header, f"its name here is {name}")
        own = program.set_names(section.options.get("environment"))
        program.write(table, section, program.Place(expressions, own))
        if not table.has("command"):
            self._draft.drop(table)
            return []
        if copies is not None:
            table.set("instances", copies, section.options["numprocs"])
        return [name]

    def _whole(self, section: Section, name: str, usual: int, most: int) -> int | None:
        option = section.options.get(name)
        if option is None:
            return usual
        found = number(option.value, min(usual, 1), most)
        if found is None:
            self._draft.table().lost(option, f"not a whole number of at most {most}")
        return found

    def _group_of(self, name: str) -> str:
        for section in self._sections:
            kind, _, group = section.name.partition(":")
            if kind == "group" and name in _members(section):
                return group.strip()
        return name

    # -- groups and order -------------------------------------------------------------------------

    def _group(self, section: Section, name: str) -> None:
        services = [
            service
            for member in _members(section)
            if member in self._programs and self._group_of(member) == name
            for service in self._programs[member].services
        ]
        given = self._groups.give(name) if services else name
        table = self._draft.table("group", given)
        if services and given != name:
            table.note(section.header, f"its name here is {given}")
        for member in _members(section):
            if member not in self._programs:
                table.lost(section.header, f"no program {member} was converted")
            elif self._group_of(member) != name:
                table.lost(section.header, f"{member} is in another group already")
        for option in section.options.values():
            if option.name not in {"programs", "priority"}:
                table.lost(option, "Supervisor has no such option")
        if services:
            table.set("services", list(dict.fromkeys(services)), section.header)
        else:
            self._draft.drop(table)

    def _order(self) -> None:
        """Translate priorities: who has a higher number starts after those with the next lower."""
        ranks: dict[tuple[int, int], list[Program]] = {}
        for name, one in self._programs.items():
            if one.services:
                ranks.setdefault((self._group_rank(name, one), one.priority), []).append(one)
        order = [ranks[rank] for rank in sorted(ranks)]
        pairs = list(itertools.pairwise(order))
        if sum(len(_names(a)) * len(_names(b)) for a, b in pairs) > MAX_ORDER:
            for one in itertools.chain(*order):
                if one.option:
                    table = self._draft.table("service", one.services[0])
                    table.lost(one.option, "too many for an order: write requires or after")
            return
        for before, after in pairs:
            for one in after:
                for name in one.services:
                    origin = one.option or one.section.header
                    references = [f"{other}:started" for other in _names(before)]
                    self._draft.table("service", name).set("after", references, origin)

    def _group_rank(self, name: str, one: Program) -> int:
        """Return the priority of a program's group, which counts before its own."""
        group = self._group_of(name)
        for section in self._sections:
            if section.name.partition(":")[::2] == ("group", group):
                option = section.options.get("priority")
                rank = number(option.value, -(2**31)) if option else None
                return _USUAL_PRIORITY if rank is None else rank
        return one.priority

    # -- other sections ---------------------------------------------------------------------------

    def _other(self, section: Section, kind: str) -> None:
        if kind == "supervisord":
            _Daemon(self._draft, section, self._set).write()
        elif kind == "inet_http_server":
            self._http(section)
        elif kind == "unix_http_server":
            table = self._draft.table()
            for option in section.options.values():
                table.note(option, "pidfdctl finds its socket by itself; see supervisor.socket")
        elif kind in _UNNEEDED:
            pass
        else:
            why = _SECTIONS.get(kind, "Supervisor has no such section")
            self._draft.table().lost(section.header, why)

    def _http(self, section: Section) -> None:
        options = section.options
        table = self._draft.table("web")
        port = options.get("port")
        guarded = [options[name] for name in ("username", "password") if name in options]
        for option in guarded:
            table.lost(option, "web.token_file holds hashes of tokens instead")
        if port is None:
            return
        address = port.value.strip()
        host, _, number_text = address.rpartition(":")
        local = host.lower() in {"127.0.0.1", "localhost"}
        if guarded or not local:
            table.lost(port, "the dashboard asks for web.token_file then; see web.listen")
        else:
            table.set("listen", f"127.0.0.1:{number_text}", port)


_UNNEEDED = {"supervisorctl", "rpcinterface", "include", "program"}
"""Sections for which there is nothing to write: pidfdctl and XML-RPC need none."""

_SECTIONS = {
    "eventlistener": "listeners are not spoken to: pidfdctl events -f --json is the stream",
    "fcgi-program": "a service with a socket of its own: see sockets in supervisord.toml(5)",
    "ctlplugin": "pidfdctl has no plugins",
}


def _members(section: Section) -> list[str]:
    option = section.options.get("programs")
    names = (name.strip() for name in (option.value if option else "").split(","))
    return list(dict.fromkeys(name for name in names if name))


def _names(programs: list[Program]) -> list[str]:
    return [name for one in programs for name in one.services]


def _copies(section: Section, count: int, start: int) -> list[str] | int | None:
    """Return how copies of one service are called; None if their number is written differently."""
    if count == 1:
        return None
    shapes = {shape for one in section.options.values() for shape in number_formats(one.value)}
    try:
        ways = {tuple(f"%{shape}" % at for at in range(start, start + count)) for shape in shapes}
    except (TypeError, ValueError):
        return None
    if len(ways) > 1 or not all(map(NAME.fullmatch, itertools.chain(*ways))):
        return None
    names = ways.pop() if ways else tuple(map(str, range(start, start + count)))
    return count if names == tuple(map(str, range(count))) else list(names)


# -- [supervisord] --------------------------------------------------------------------------------


class _Daemon:
    """Translate the options of the daemon itself."""

    def __init__(self, draft: Draft, section: Section, names: frozenset[str]) -> None:
        self._own = draft.table("supervisor")
        self._defaults = draft.table("defaults")
        self._section = section
        self._set = names
        self._expressions = Expressions({"here": section.here})

    def write(self) -> None:
        """Write each of them."""
        for option in self._section.options.values():
            does = self._KNOWN.get(option.name)
            if option.name in _NOTHING or option.value.strip().lower() == _AS_USUAL.get(
                option.name
            ):
                continue
            if does is None:
                why = _OF_DAEMON.get(option.name, "Supervisor has no such option")
                self._own.lost(option, why)
                continue
            try:
                does(self, option)
            except NotConvertibleError as error:
                self._own.lost(option, str(error))

    def _plain(self, option: Option) -> str:
        marks = Marks(option.value)
        return marks.plain(self._expressions.expand(option.value, marks)).strip()

    def _filled(self, option: Option) -> str:
        marks = Marks(option.value)
        return marks.fill(self._expressions.expand(option.value, marks))

    def _logfile(self, option: Option) -> None:
        path = os.path.expanduser(self._plain(option))
        if path.lower() in {"none", "off", "/dev/null"}:
            self._own.set("log.to", ["null"], option)
        elif path in {"/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2"}:
            self._own.set("log.to", ["stdout"], option)
        elif path.lower() == "syslog":
            self._own.set("log.to", ["syslog"], option)
        elif self._own.set("log.to", ["file"], option):
            self._own.set("log.path", path, option)

    def _maxbytes(self, option: Option) -> None:
        value = size(option)
        if value is None:
            raise NotConvertibleError("not a size")
        self._own.set("log.rotate_size", value, option)

    def _backups(self, option: Option) -> None:
        self._own.set("log.rotate_keep", self._whole(option), option)

    def _whole(self, option: Option) -> int:
        found = number(self._plain(option))
        if found is None:
            raise NotConvertibleError("not a whole number")
        return found

    def _loglevel(self, option: Option) -> None:
        level = _LEVELS.get(self._plain(option).lower())
        if level is None:
            raise NotConvertibleError("not a level")
        self._own.set("log.level", level, option)

    def _umask(self, option: Option) -> None:
        self._defaults.set("umask", self._plain(option), option)

    def _directory(self, option: Option) -> None:
        self._defaults.set("directory", os.path.expanduser(self._filled(option)), option)

    def _user(self, option: Option) -> None:
        user = self._filled(option)
        if user != "root":
            self._defaults.set("user", user, option)
            self._defaults.note(option, "for the services; the daemon stays who starts it")

    def _childlogdir(self, option: Option) -> None:
        self._own.set("log_dir", os.path.expanduser(self._plain(option)), option)

    def _strip_ansi(self, option: Option) -> None:
        found = one_of(self._plain(option), YES_NO)
        if found is None:
            raise NotConvertibleError("neither true nor false")
        if found:
            self._defaults.set("log.strip_ansi", found, option)

    def _minfds(self, option: Option) -> None:
        if (least := self._whole(option)) > 1024:
            self._defaults.set("limits.nofile", least, option)

    def _environment(self, option: Option) -> None:
        program.write_environment(self._defaults, option, self._expressions, self._set)

    _KNOWN: Mapping[str, "Callable[[_Daemon, Option], None]"] = {
        "logfile": _logfile, "logfile_maxbytes": _maxbytes, "logfile_backups": _backups,
        "loglevel": _loglevel, "umask": _umask, "directory": _directory, "user": _user,
        "childlogdir": _childlogdir, "strip_ansi": _strip_ansi, "minfds": _minfds,
        "environment": _environment,
    }  # fmt: skip


_LEVELS = {
    "critical": "error", "error": "error", "warn": "warning", "warning": "warning",
    "info": "info", "debug": "debug", "trace": "debug", "blather": "debug",
}  # fmt: skip
_NOTHING = {"nodaemon", "nocleanup", "minprocs", "silent"}
"""It runs in the foreground, removes no logs at its start, and asks for no processes ahead."""
_AS_USUAL = {"identifier": "supervisor"}
_OF_DAEMON = {
    "pidfile": "there is none: a lock in the runtime directory keeps a second one out",
    "identifier": "it has no name; metrics are told apart by their target",
}
