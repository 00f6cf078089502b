"""`status` and the predicates: what the services are, as a table or one of them at length."""

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.cli import procfs
from supervisord_pidfd.cli.screen import ago, escape, length, local, moment, plural, size
from supervisord_pidfd.cli.session import DONE, FALSE, Session, last_lines
from supervisord_pidfd.client import Reply
from supervisord_pidfd.errors import UsageError

PHASES = (
    "running", "starting", "waiting", "backoff", "stopping", "failed", "exited", "stopped",
)  # fmt: skip
FLAPPING = 5
"""Restarts in the last hour from which on the table shows them."""
WATCH_EVERY_S = 1.0

Record = Mapping[str, Any]
Usages = dict[str, procfs.Usage | None]


class Line(NamedTuple):
    """Hold a service with what /proc tells of its process; `now` is Unix time."""

    service: Record
    usage: procfs.Usage | None
    now: float


# -- columns --------------------------------------------------------------------------------------


def _uptime(line: Line) -> str:
    started = moment(line.service.get("started_at"))
    return length(line.now - started) if started and line.service["pid"] else "-"


def _restarts(line: Line) -> str:
    often = line.service["restarts_1h"]
    return f"{line.service['restarts']}" + (f" ({often} in 1h)" if often >= FLAPPING else "")


def _cpu(line: Line) -> str:
    share = line.usage.cpu_share if line.usage else None
    return "-" if share is None else f"{share * 100:.1f}%"


def _ended(line: Line) -> str:
    last = line.service.get("last_exit")
    return str(last["text"]) if last else "-"


COLUMNS: dict[str, Callable[[Line], str]] = {
    "SERVICE": lambda line: line.service["name"],
    "GROUP": lambda line: line.service["group"],
    "TYPE": lambda line: line.service["type"],
    "PHASE": lambda line: line.service["phase"],
    "WANTED": lambda line: line.service["wanted"],
    "READY": lambda line: "yes" if line.service["ready"] else "no",
    "HEALTH": lambda line: line.service["health"],
    "PID": lambda line: str(line.service["pid"] or "-"),
    "RUN": lambda line: str(line.service["run"]),
    "SINCE": lambda line: local(line.service["since"], "%Y-%m-%d %H:%M:%S"),
    "UPTIME": _uptime,
    "RESTARTS": _restarts,
    "CPU": _cpu,
    "RSS": lambda line: size(line.usage.rss_bytes if line.usage else None),
    "THREADS": lambda line: str(line.usage.threads) if line.usage else "-",
    "EXIT": _ended,
    "PENDING": lambda line: "yes" if line.service.get("pending") else "no",
    "DETAIL": lambda line: line.service["detail"],
}
DEFAULT = ("SERVICE", "PHASE", "READY", "PID", "UPTIME", "RESTARTS", "CPU", "RSS", "DETAIL")


def columns(words: str | None) -> tuple[str, ...]:
    """Return the columns that were asked for.

    Raises:
        UsageError: There is no such column.
    """
    if words is None:
        return DEFAULT
    chosen = tuple(word.strip().upper() for word in words.split(","))
    for word in chosen:
        if word not in COLUMNS:
            known = ",".join(COLUMNS)
            raise UsageError(f"--columns: no column '{escape(word)}' (there are {known})")
    return chosen


# -- verbs ----------------------------------------------------------------------------------------


def status(session: Session) -> int:
    """Show the services, once or again and again."""
    chosen = columns(session.words.text("columns"))
    if session.words.has("watch"):
        from supervisord_pidfd.cli.live import live  # noqa: PLC0415 - termios, only to watch

        return live(session.screen, lambda: _watched(session, chosen), WATCH_EVERY_S)
    reply, usages = ask(session)
    _show(session, reply, usages, chosen)
    unready = any(one["wanted"] == "up" and not one["ready"] for one in reply["services"])
    return FALSE if session.words.has("check") and unready else DONE


def is_running(session: Session) -> int:
    """Tell whether all of them are running."""
    return _predicate(session, all, lambda one: one["phase"] == "running")


def is_ready(session: Session) -> int:
    """Tell whether all of them are ready."""
    return _predicate(session, all, lambda one: one["ready"])


def is_failed(session: Session) -> int:
    """Tell whether any of them has failed."""
    return _predicate(session, any, lambda one: one["phase"] == "failed")


def _predicate(
    session: Session, over: Callable[[list[bool]], bool], holds: Callable[[Record], bool]
) -> int:
    reply, _ = ask(session)
    session.screen.frame(reply)
    return DONE if over([bool(holds(one)) for one in reply["services"]]) else FALSE


def ask(session: Session) -> tuple[Reply, Usages]:
    """Call Status for the names given; sorted by name, with what /proc tells in each service."""
    words, daemon, boot = session.words, session.client.peer.pid, procfs.uptime()
    known: dict[int, procfs.Usage | None] = {}
    reply = session.call(
        "Status",
        {"names": words.names, "all": (words.verb.name == "status" and words.has("all")) or None},
        None if words.names else _beforehand(daemon, boot, known),
    )
    services: list[dict[str, Any]] = sorted(reply["services"], key=_by_name)
    # In another pid namespace the same numbers are other processes.
    visible = daemon == reply["supervisor"]["pid"]
    usages: Usages = {}
    for one in services:
        pid = one["pid"] if visible else None
        use = (known[pid] if pid in known else procfs.usage(pid, boot)) if pid else None
        usages[one["name"]] = use
        one["rss_bytes"] = use.rss_bytes if use else None
        one["cpu_s"] = use.cpu_s if use else None
    reply["services"] = services
    return reply, usages


def _beforehand(daemon: int, boot: float, known: dict[int, procfs.Usage | None]) -> Iterator[None]:
    """Read what the daemon's children use, one a step, while it makes up its answer."""
    for pid in procfs.children(daemon):
        known[pid] = procfs.usage(pid, boot)
        yield


def _by_name(service: Record) -> tuple[str, int, str]:
    """Sort instances by number: `worker@10` comes after `worker@9`."""
    base, _, instance = str(service["name"]).partition("@")
    return base, int(instance) if instance.isdigit() else -1, instance


def _show(session: Session, reply: Reply, usages: Usages, chosen: tuple[str, ...]) -> None:
    words, screen = session.words, session.screen
    if screen.as_json:
        screen.frame(reply)
    elif words.has("names"):
        screen.lines([escape(str(one["name"])) for one in reply["services"]])
    elif len(words.operands) == 1 and len(reply["services"]) == 1 and not words.text("columns"):
        screen.lines(_long(session, reply["services"][0]))
    else:
        screen.lines(_table(session, reply, usages, chosen))


def _watched(session: Session, chosen: tuple[str, ...]) -> list[str]:
    reply, usages = ask(session)
    if session.screen.as_json:
        session.screen.frame(reply)
        return []
    return _table(session, reply, usages, chosen)


def _table(session: Session, reply: Reply, usages: Usages, chosen: tuple[str, ...]) -> list[str]:
    bare, now = session.words.has("no_header"), session.clock.wall()
    lines = [Line(one, usages[one["name"]], now) for one in reply["services"]]
    rows = [[COLUMNS[name](line) for name in chosen] for line in lines]
    phase = chosen.index("PHASE") if "PHASE" in chosen else None
    table = session.screen.table(None if bare else chosen, rows, phase)
    return table if bare else [*table, _summary(reply)]


def _summary(reply: Reply) -> str:
    """Count the phases, and tell what an operator should know of the daemon."""
    services, supervisor = reply["services"], reply["supervisor"]
    counts = dict.fromkeys(PHASES, 0)
    for one in services:
        counts[one["phase"]] = counts.get(one["phase"], 0) + 1
    parts = ", ".join(f"{number} {escape(phase)}" for phase, number in counts.items() if number)
    notes = [plural(len(services), "service") + (f": {parts}" if parts else "")]
    if supervisor["phase"] == "stopping":
        notes.append("the daemon is stopping")
    if supervisor["reaper"] != "pidfd":
        why = supervisor.get("reaper_reason")
        notes.append(
            f"reaper {escape(supervisor['reaper'])}" + (f" ({escape(why)})" if why else "")
        )
    return "         ".join([*notes, *_config_notes(supervisor["config"])])


def _config_notes(config: Record) -> list[str]:
    """Compare the files with the last apply; the client looks, the daemon touches no disk."""
    if config.get("last_error"):
        return [f"last apply failed: {escape(config['last_error'])} (pidfdctl plan)"]
    applied = moment(config.get("applied_at"))
    for path in config.get("files") or ():
        try:
            changed = os.stat(path).st_mtime
        except (OSError, ValueError):  # gone, or not ours to see
            continue
        if applied is not None and changed > applied + 0.001:
            since = local(config["applied_at"])
            return [f"config changed on disk since {since} (pidfdctl plan)"]
    return []


# -- one service at length ------------------------------------------------------------------------

_MOMENTS = {"since", "started_at", "ready_at", "next_start_at"}


def _long(session: Session, service: Record) -> list[str]:
    """Write every member of a service on its own line, then what it wrote last."""
    now = session.clock.wall()
    rows = [[key, text] for key in service for text in _member(key, service[key], now)]
    wide = max(len(key) for key, _ in rows)
    lines = [f"{escape(key):<{wide}}  {escape(text)}".rstrip() for key, text in rows]
    phase = str(service["phase"])
    lines = [
        f"{'phase':<{wide}}  {session.screen.phase(phase)}" if key == "phase" else line
        for (key, _), line in zip(rows, lines, strict=True)
    ]
    written = last_lines(session, str(service["name"]))
    return [*lines, "", *map(escape, written)] if written else lines


def _member(key: str, value: Any, now: float) -> list[str]:  # noqa: PLR0911 - by kind
    if value is None or value in ("", []):
        return ["-"]
    if key == "checks":
        return [_check(check, now) for check in value]
    if key in _MOMENTS:
        return [ago(value, now)]
    if key == "last_exit":
        return [f"{value['text']} (cause {value['cause']})"]
    if key.endswith("_bytes"):
        return [size(value)]
    if key.endswith("_s"):
        return [length(value, fine=True)]
    return [_plain(value)]


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_plain(one) for one in value)
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
    return str(value)


def _check(check: Record, now: float) -> str:
    verdict = {True: "passes", False: "fails", None: "no verdict yet"}[check["ok"]]
    parts = [f"{check['name']} ({check['kind']}): {verdict}"]
    if check["failures"]:
        parts.append(f"{plural(check['failures'], 'failure')} in a row")
    if check.get("last_at"):
        parts.append(f"last {ago(check['last_at'], now)}")
    if check.get("error"):
        parts.append(str(check["error"]))
    return ", ".join(parts)
