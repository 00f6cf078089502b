"""The verbs that tell: explain, history, plan, show, sd, health, events, logs, version."""

import base64
import os
import sys
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd import __version__
from supervisord_pidfd.cli import following, problems
from supervisord_pidfd.cli.screen import ago, clock_time, cut, escape, length, local, moment, size
from supervisord_pidfd.cli.session import (
    DONE,
    FAILED,
    INVALID,
    VARLINK,
    Session,
    last_lines,
)

Record = Mapping[str, Any]

LABEL_WIDE = 10
RUNS, EVENTS, LINES = 20, 50, 100
VALUE_WIDE = 30
"""Columns of a value in a plan on a terminal: the place behind it is to be seen, too."""


# -- explain --------------------------------------------------------------------------------------


def explain(session: Session) -> int:
    """Say why a service is as it is, and what to do."""
    reply = session.call("Explain", {"name": session.words.operands[0]})
    service, screen = reply["service"], session.screen
    run = int(service["run"])
    written = last_lines(session, str(service["name"]), run) if run else []
    reply = {**reply, "last_lines": written or reply["last_lines"]}
    screen.frame(reply)
    screen.line(escape(_dated(reply, session.clock.wall())))
    for fact in reply["facts"]:
        _fact(session, str(fact["label"]), _fact_text(fact))
    lines = [str(line) for line in reply["last_lines"]] or ["(none in this run)"]
    _fact(session, "last-lines", *lines)
    if reply["try"]:
        _fact(session, "try", " | ".join(map(str, reply["try"])))
    return DONE


def _dated(reply: Record, now: float) -> str:
    """Put into the summary since when it is so; the daemon leaves that to whoever has a clock."""
    summary, service = str(reply["summary"]), reply["service"]
    head = len(str(service["name"]))
    ends = [at for at in (summary.find(mark, head) for mark in ",;:") if at >= 0]
    end = min(ends, default=len(summary))
    return f"{summary[:end]} since {ago(service['since'], now)}{summary[end:]}"


def _fact(session: Session, label: str, *texts: str) -> None:
    for text in texts:
        session.screen.line(f"  {escape(label):<{LABEL_WIDE}}  {escape(text)}".rstrip())
        label = ""


def _fact_text(fact: Record) -> str:
    text = str(fact["text"])
    if fact.get("at"):
        text = f"{local(fact['at'])} {text}"
    place = _place(fact)
    return text if not place or place in text else f"{text} ({place})"


def _place(record: Record) -> str:
    if not record.get("file"):
        return ""
    return f"{record['file']}:{record['line']}" if record.get("line") else str(record["file"])


# -- history --------------------------------------------------------------------------------------

_RUN_TITLES = ("RUN", "STARTED", "LASTED", "ENDED", "NEXT", "MAX RSS", "CPU")


def history(session: Session) -> int:
    """Show the last runs of a service, the newest first."""
    last = session.words.number("lines")
    reply = session.call(
        "History", {"name": session.words.operands[0], "last": RUNS if last is None else last}
    )
    session.screen.frame(reply)
    runs = sorted(reply["runs"], key=lambda run: run["run"], reverse=True)
    now = session.clock.wall()
    if not runs:
        session.screen.line("no run to show")
        return DONE
    session.screen.lines(session.screen.table(_RUN_TITLES, [_run(run, now) for run in runs]))
    return DONE


def _run(run: Record, now: float) -> list[str]:
    lasted = run.get("lasted_s")
    begun = moment(run["started_at"])
    if lasted is None and begun is not None and run.get("ended_at") is None:
        lasted = now - begun
    spent = [run[key] for key in ("user_cpu_s", "system_cpu_s") if run.get(key) is not None]
    return [
        str(run["run"]), local(run["started_at"], "%Y-%m-%d %H:%M:%S"), length(lasted, fine=True),
        str(run["exit"]["text"]) if run.get("exit") else "running", _next(run),
        size(run.get("max_rss_bytes")), length(sum(spent), fine=True) if spent else "-",
    ]  # fmt: skip


def _next(run: Record) -> str:
    if not run.get("next"):
        return "-"
    delay = run.get("delay_s")
    if delay is None:
        return str(run["next"])
    return f"{run['next']} {'at once' if not delay else f'after {length(delay, fine=True)}'}"


# -- plan, show, sd -------------------------------------------------------------------------------

_SIGNS = {"restart": "~", "update": "~", "add": "+", "remove": "-"}
_COUNTED = (
    ("restart", "to restart"), ("update", "to update live"), ("add", "to add"),
    ("remove", "to remove"),
)  # fmt: skip


def plan(session: Session) -> int:
    """Show what `apply` would do."""
    file = session.words.operands[0] if session.words.operands else None
    reply = session.call("Plan", {"file": None if file is None else os.path.abspath(file)})
    screen, items, found = session.screen, reply["items"], reply["problems"]
    screen.frame(reply)
    if found:
        screen.warn(problems.render(found).rstrip("\n"))
    if any(one["severity"] == "error" for one in found):
        return INVALID
    if not items:
        screen.line("nothing to do")
        return DONE
    room = None if screen.width is None else VALUE_WIDE
    rows = [row for item in items for row in _planned(item, room)]
    screen.lines(screen.table(None, rows))
    counts = {what: sum(item["action"] == what for item in items) for what, _ in _COUNTED}
    told = ", ".join(f"{counts[what]} {text}" for what, text in _COUNTED if counts[what])
    screen.line(f"{told}.  Plan {escape(str(reply['digest']))}.  Do it: pidfdctl apply")
    return DONE


def _planned(item: Record, room: int | None) -> list[list[str]]:
    """Make the rows of one service: one for each change."""
    action, changes = str(item["action"]), item["changes"]
    head = [f"{_SIGNS.get(action, '?')} {item['service']}", action]
    if action in {"add", "remove"}:
        place = _place(changes[0]) if changes else ""
        if action == "remove":
            return [[*head, f"was {place}" if place else "", ""]]
        return [[*head, "new", place]]
    rows = [
        [f"{one['key']} {_value(one, 'old', room)} → {_value(one, 'new', room)}", _place(one)]
        for one in changes
    ]
    return [[*(head if not index else ["", ""]), *row] for index, row in enumerate(rows)] or [
        [*head, "", ""]
    ]


def _value(change: Record, which: str, room: int | None) -> str:
    value = change.get(which)
    text = "(none)" if value is None else str(value)
    return text if room is None else cut(text, room)


def show(session: Session) -> int:
    """Print the effective configuration of a service."""
    name, origin = session.words.operands[0], session.words.has("origin")
    reply = session.call("Show", {"name": name, "origin": origin or None})
    session.screen.frame(reply)
    text = str(reply["toml"])
    if session.screen.terminal:
        text = escape(text, keep="\n\t")
    session.screen.line(text.rstrip("\n"))
    return DONE


def discovery(session: Session) -> int:
    """Print the targets of Prometheus' http_sd and file_sd."""
    reply = session.call("Discovery")
    host = session.words.text("host") or os.uname().nodename
    groups = [
        {**group, "targets": [_target(str(target), host) for target in group["targets"]]}
        for group in reply["groups"]
    ]
    session.screen.frame({**reply, "groups": groups})
    if not session.screen.as_json and not session.screen.quiet:
        session.screen.object(groups)
    return DONE


def _target(target: str, host: str) -> str:
    """Put the host before the port: the daemon does not know under which name it is reached."""
    port = target.rpartition(":")[2]
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


# -- health, version ------------------------------------------------------------------------------


def health(session: Session) -> int:
    """Tell whether all is well; the reasons go to standard error."""
    reply = session.call("Health", {"level": session.words.text("level") or "ready"})
    session.screen.frame(reply)
    for reason in reply["reasons"]:
        session.screen.warn(escape(str(reason)))
    if reply["ok"]:
        session.screen.line("ok")
    return DONE if reply["ok"] else FAILED


def version(session: Session) -> int:
    """Tell both sides; the client's comes first, whatever becomes of the other."""
    session.screen.line(f"pidfdctl {__version__} (python {sys.version.split()[0]})")
    reply = session.call(f"{VARLINK}GetInfo")
    session.screen.frame({**reply, "client_version": __version__})
    theirs = escape(f"{reply['product']} {reply['version']}")
    differs = "" if reply["version"] == __version__ else "  (differs; pidfdctl reexec)"
    session.screen.line(f"{theirs} at {escape(session.path)}{differs}")
    return DONE


# -- streams --------------------------------------------------------------------------------------


def events(session: Session) -> int:
    """Show what happened, and with -f what happens."""
    words, screen = session.words, session.screen
    last, since, follow = words.number("lines"), words.text("since"), words.has("follow")
    if last is None and since is None:
        last = EVENTS
    parameters = {"names": words.names, "since": since, "last": last, "follow": follow or None}
    limit = None if follow else 10.0
    for reply, _ in session.client.stream("Events", parameters, limit):
        event = reply.get("event")
        if event is None:  # the end of what there was
            continue
        if screen.as_json:
            screen.object(event)
        else:
            screen.line(event_text(event))
    return DONE


_HIDDEN = frozenset(
    {"ts", "level", "event", "seq", "service", "group", "run", "pid", "phase_from", "phase_to"}
)


def event_text(event: Record) -> str:
    """Write an event as the daemon's own log has it on a terminal."""
    if event.get("event") == "gap":
        return f"-- {event.get('lost')} events lost: read too slowly --"
    words = [clock_time(event.get("ts")), "--", escape(str(event.get("event", "?")))]
    of_service = "run" in event
    if of_service:
        words.append(escape(str(event.get("service"))))
    hidden = _HIDDEN if of_service else _HIDDEN - {"service", "pid", "group"}
    words += [
        f"{escape(key)}={_field(value)}"
        for key, value in event.items()
        if key not in hidden and value is not None and value is not False
    ]
    return " ".join(words)


_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+,~^()[]-")


def _field(value: object) -> str:
    if value is True:
        return "true"
    if isinstance(value, float):
        return repr(round(value, 6))
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    if text and _BARE.issuperset(text):
        return text
    return '"' + escape(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def logs(session: Session) -> int:
    """Show what services wrote, or have the log files opened anew.

    Who follows sees what happens to the services as well, unless the lines are for a program.
    """
    words, screen = session.words, session.screen
    if words.has("reopen"):
        reply = session.call("ReopenLogs")
        screen.frame(reply)
        screen.line(f"{reply['files']} log files opened anew")
        return DONE
    last, since, follow = words.number("lines"), words.text("since"), words.has("follow")
    if last is None and since is None:
        last = LINES
    only = [name for name in ("stdout", "stderr") if words.has(name)]
    parameters = {
        "names": words.names, "last": last, "since": since,
        "stream": only[0] if len(only) == 1 else None,
        "run": words.number("run"), "follow": follow or None,
    }  # fmt: skip
    plain = words.has("raw") or screen.as_json or bool(only) or words.number("run") is not None
    if follow and not plain:
        replies = following.follow(session, parameters)
    else:
        limit = None if follow else 10.0
        replies = (reply for reply, _ in session.client.stream("Logs", parameters, limit))
    for reply in replies:
        line = reply.get("line")
        if line is not None:
            _log_line(session, line)
        elif reply.get("event") is not None:
            screen.line(event_text(reply["event"]))
    return DONE


_BARS = {"stdout": " |", "stderr": "!|", "hook": "#|"}


def _log_line(session: Session, line: Record) -> None:
    screen = session.screen
    if screen.as_json:
        screen.object(line)
        return
    if session.words.has("raw"):
        raw = line.get("raw")
        written = str(line["msg"]) if raw is None else base64.b64decode(str(raw))
        screen.as_written(written, end="" if line["partial"] else "\n")
        return
    missed = line.get("missed_bytes")
    if missed:
        screen.line(f"-- {missed} bytes missed: read too slowly --")
    bar = _BARS.get(str(line["stream"]), " |")
    text = str(line["msg"])
    shown = escape(text, keep="\t") if screen.terminal else text
    end = "\\" if line["partial"] else ""
    name = escape(str(line["service"]))
    screen.line(f"{clock_time(line['ts'])} {name:<8}{bar} {shown}{end}")
