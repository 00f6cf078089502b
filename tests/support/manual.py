"""Write the manual pages from what the program itself goes by.

`python -m tests.support.manual docs/man`

Verbs, options and exit codes of pidfdctl(1) come from the table that its parser reads; the keys of
supervisord.toml(5) from the schema, with defaults from the specs; the events of
supervisord-pidfd(8) from the table of notices. Only what no table knows is written here.
"""

import sys
from pathlib import Path

from supervisord_pidfd import __version__, options
from supervisord_pidfd.cli.status import COLUMNS
from supervisord_pidfd.cli.verbs import EXIT_CODES, GLOBAL, HINTS, VERBS, Option, Verb
from supervisord_pidfd.core.notices import EVENTS, Level, Row
from tests.support.manual_file import file
from tests.support.roff import ALSO, Page, sentence

# -- pidfdctl(1) ----------------------------------------------------------------------------------

_NAMES = """
A NAME is a service (`worker` stands for all its instances), one instance (`worker@3`), a glob
(`'web*'`), a group (`@backend`), or `--all`. Verbs that change something need a NAME or `--all`.
All names are looked up before anything is done; a glob that matches nothing is an unknown name.
"""

_WAITING = """
`start`, `stop`, `restart`, `reload` and `apply` wait until they are done, and print one line for
each service as it finishes. A start is done when the service is ready (a oneshot: when it ended
cleanly), a stop when no process is left. The wait of a start ends at the first of ready, an end of
the process, or the time of `--timeout`, which only ends the wait: the change goes on, and
`pidfdctl wait --change ID` waits for it again. The same is true of Ctrl-C.
"""

_JSON = """
With `--json`, standard output has one line: `{"format":1, ...}` with the members of the reply of
the method that the verb calls, as io.supervisordpidfd.Control.varlink declares it. `status` adds
`rss_bytes` and `cpu_s` to each service, which the client reads from /proc. `logs`, `events` and
`top` print one bare object for each line, event or service instead, without a frame; `sd` prints
the bare list of targets that Prometheus reads, and the frame with `--json` only. Within a format
number members are only ever added.

A failure is `{"format":1,"error":{"name":...,"message":...,"parameters":{...}}}` on standard
output, and its message on standard error. Exit codes are the same with and without `--json`.
Moments are UTC, lengths are seconds (`_s`), amounts are bytes (`_bytes`), what is unknown is null.
"""

FRAMES = {
    "Status": "`supervisor`, and `services`, sorted by name",
    "Start": "`change`, and `outcomes`: each with `service`, `ok`, `phase`, `message`, `took_s`",
    "Wait": "`outcomes`",
    "Signal": "`outcomes`",
    "Explain": "`service`, `summary`, `facts`, `last_lines`, `try`",
    "History": "`runs`, the newest first",
    "Dependencies": "`edges`: each with `from`, `to`, `kind`, `condition`, `met`",
    "Show": "`toml`",
    "Plan": "`digest`, `items`, `problems`",
    "Apply": "`change`, `digest`, `outcomes`, `problems`",
    "Health": "`ok`, `reasons`",
    "Discovery": "`groups`",
}
"""Frames by method; Stop, Restart and Reload are as Start, Reset, Freeze and Thaw as Signal."""


def pidfdctl() -> str:
    """Return pidfdctl(1)."""
    page = Page("pidfdctl", 1, __version__, "control a supervisord-pidfd daemon")
    page.heading("SYNOPSIS")
    page.paragraphs("`pidfdctl` [OPTION...] [VERB] [ARG...]")
    page.heading("DESCRIPTION")
    page.paragraphs(
        "Asks the daemon over its control socket, and prints what it answers. Without a VERB it is"
        " `status`. Options may stand before or after the verb; `--` ends them."
    )
    page.paragraphs(_NAMES)
    page.heading("OPTIONS")
    for option in GLOBAL:
        page.item(_flags(option), sentence(option.help))
    page.heading("VERBS")
    for verb in VERBS:
        _verb(page, verb)
    page.paragraphs(
        "Verbs of other supervisors exit with 2 and name the right one: "
        + ", ".join(f"`{word}`" for word in sorted(HINTS)) + "."
    )  # fmt: skip
    page.heading("WAITING")
    page.paragraphs(_WAITING)
    page.heading("COLUMNS")
    page.paragraphs(
        "`status --columns` takes, separated by commas: "
        + ", ".join(f"`{name}`" for name in COLUMNS) + "."
        " On a terminal the last column is cut to fit; piped output is never cut. CPU is the share"
        " of one processor over the life of the process. RESTARTS also tells those of the last"
        " hour when they are many."
    )  # fmt: skip
    page.heading("JSON")
    page.paragraphs(_JSON)
    for method, members in FRAMES.items():
        verbs = [verb.name for verb in VERBS if verb.method == method]
        page.item(", ".join(f"`{name}`" for name in verbs), f"{members}.")
    page.heading("EXIT STATUS")
    for code, meaning in EXIT_CODES.items():
        page.item(f"`{code}`", sentence(meaning))
    page.paragraphs(
        "The code never says how services are, but for the `is-` verbs, `wait`, `health` and"
        " `status --check`. `health` is 1 whenever it is not 0, as a HEALTHCHECK needs it."
    )
    page.heading("ENVIRONMENT")
    page.item("`PIDFDCTL_SOCKET`", "The control socket, if there is no `-s`.")
    page.item("`NO_COLOR`", "If it is not empty, phases are printed without colour.")
    page.heading("FILES")
    page.item(
        "`$XDG_RUNTIME_DIR/supervisord-pidfd/control.sock`", "The user's own daemon, if there."
    )
    page.item("`/run/supervisord-pidfd/control.sock`", "The system's daemon.")
    page.heading("EXAMPLES")
    page.example(
        """
pidfdctl                                   # all services
pidfdctl restart 'web*' --timeout 30s      # and wait until they are ready
pidfdctl explain web                       # why it is as it is, and what to do
pidfdctl plan && pidfdctl apply            # after a change of the file
pidfdctl is-ready db && pidfdctl start report
source <(pidfdctl completion bash)         # or zsh; fish: pidfdctl completion fish | source
"""
    )
    page.heading("SEE ALSO")
    page.paragraphs(ALSO)
    return str(page)


def _verb(page: Page, verb: Verb) -> None:
    also = f" (also {', '.join(f'`{alias}`' for alias in verb.aliases)})" if verb.aliases else ""
    codes = f" Exit codes beside the common ones: {', '.join(map(str, verb.codes))}."
    meaning = sentence(verb.help) + (codes if verb.codes else "")
    operands = f" {verb.operands.replace('…', '...')}" if verb.operands else ""
    page.item(f"`{verb.name}`{operands}{also}", meaning)
    page.inner([(_flags(option), sentence(option.help)) for option in verb.options])


def _flags(option: Option) -> str:
    value = f" {'|'.join(option.choices) or option.metavar}" if option.metavar else ""
    return ", ".join(f"`{flag}`" for flag in option.flags) + value


# -- supervisord-pidfd(8) -------------------------------------------------------------------------

_DAEMON_VERBS = {
    "run": "Run in the foreground, and never in the background.",
    "check": (
        "Validate a file as `run` would, without a daemon, and print all problems in one pass."
        " `--strict` turns warnings into errors; `--json` prints one object."
    ),
    "schema": "Print the JSON Schema (2020-12) of the file, for editors.",
    "convert": (
        "Print the file that does what FILE does with another supervisor, a supervisord.conf or a"
        " Procfile. What has no counterpart stands in it as a comment, `# not converted:`, and is"
        " told on standard error, without its value; with `--strict` the exit code is 1 then."
        " Without `--from` the kind is guessed by name and content. `-o` writes to OUT, which must"
        " not be there."
    ),
    "version": "Print the version, and what exits are detected with here.",
}
_RUN_OPTIONS = {
    "`-c`, `--config` FILE": "The configuration file; without it, that of FILES.",
    "`--set` KEY=VALUE": (
        "Set one key of the file, which it wins over; KEY is dotted, VALUE is TOML, a bare word is"
        " a string. May be repeated."
    ),
    "`--pid1` auto|yes|no": "Behave as PID 1 of a container; `auto`: if the pid is 1.",
    "`--socket` PATH|none": "The control socket.",
    "`--` CMD ARG...": (
        "With a file: one more service, `main`. Without one: be the init of this command alone. It"
        " inherits the streams and the environment, every signal is passed on, and its exit code"
        " becomes the daemon's."
    ),
}
_DAEMON_EXITS = {
    "0": "stopped as asked, or idle and every last result was clean",
    "1": "an internal failure; of `convert --strict`: something was left out",
    "2": "the command line is wrong; of `convert` also: OUT is there",
    "6": "the configuration is invalid, or what is to be converted is; standard error says where",
    "7": "it cannot start here: another instance runs, or a directory is unsafe",
    "10": (
        "a start limit or a check with action shutdown, idle with a failed service, or a shutdown"
        " that left processes alive"
    ),
    "other": (
        "the code of the `main` or `critical` service that ended the daemon: its exit code;"
        " 128 + signal; 127 not found, 126 not executable, 125 any other failure to start it"
    ),
}
_SIGNALS = {
    "`TERM`, `INT`, `QUIT`, `RTMIN+3`": (
        "Stop everything and end. A second one, half a second later or more, kills what is left."
    ),
    "`HUP`": "Apply the configuration, as `pidfdctl apply` does.",
    "`USR1`": "Write one `service.dumped` event for each service.",
    "`USR2`": "Reopen log files.",
}


def daemon() -> str:
    """Return supervisord-pidfd(8)."""
    page = Page("supervisord-pidfd", 8, __version__, "keep services running")
    page.heading("SYNOPSIS")
    page.example(options.USAGE.replace("usage: ", "").replace("\n       ", "\n"))
    page.heading("DESCRIPTION")
    page.paragraphs(
        "Starts the services of a TOML file, `supervisord.toml`(5), keeps them running by policy,"
        " and answers `pidfdctl`(1). It runs as a daemon under systemd, as PID 1 of a container,"
        " or on a plain host. Exits are learned of by pidfds, or by SIGCHLD where there are none."
    )
    page.heading("VERBS")
    for verb in options.VERBS:
        page.item(f"`{verb}`", _DAEMON_VERBS[verb])
        if verb == "run":
            page.inner(list(_RUN_OPTIONS.items()))
    page.heading("EXIT STATUS")
    for code, meaning in _DAEMON_EXITS.items():
        page.item(f"`{code}`", sentence(meaning))
    page.heading("SIGNALS")
    for names, meaning in _SIGNALS.items():
        page.item(names, meaning)
    page.paragraphs(
        "`PIPE`, `WINCH`, `TTIN`, `TTOU`, `TSTP` and the other real-time signals are ignored."
        " `supervisor.signals` takes one signal as another."
    )
    page.heading("EVENTS")
    page.paragraphs(
        "What happens is told as events: text on a terminal, JSON lines elsewhere. Each has `ts`,"
        " `level`, `event` and `seq`; those of a service also `service`, `group`, `run` and `pid`."
        " Exactly one event tells a change of phase, and has `phase_from` and `phase_to`. Below"
        " are the levels (D debug, I info, W warning, E error) and the other fields."
    )
    for kind, row in EVENTS.items():
        fields = [name for name in kind._fields if name not in {"pid", "run"}]  # type: ignore[attr-defined]
        page.item(f"`{row.event}` {_level(row)}", ", ".join(fields) or "no other field")
    page.heading("FILES")
    for path, meaning in {
        "`/etc/supervisord-pidfd/supervisord.toml`": "The configuration of root's daemon.",
        "`/run/supervisord-pidfd/`": "Sockets, of clients, the gateway and services.",
        "`/var/log/supervisord-pidfd/`, `/var/lib/supervisord-pidfd/`": "Logs, and what is kept.",
    }.items():
        page.item(path, meaning)
    page.paragraphs(
        "Others have `supervisord-pidfd/` below `$XDG_CONFIG_HOME`, `$XDG_RUNTIME_DIR` and"
        " `$XDG_STATE_HOME`."
    )
    page.heading("SEE ALSO")
    page.paragraphs(ALSO)
    return str(page)


def _level(row: Row) -> str:
    return row.level.name[0] if isinstance(row.level, Level) else "I or W"


PAGES = {"pidfdctl.1": pidfdctl, "supervisord-pidfd.8": daemon, "supervisord.toml.5": file}


def main() -> None:
    """Write the pages into a directory."""
    directory = Path(sys.argv[1])
    for name, write in PAGES.items():
        (directory / name).write_text(write(), encoding="ascii")


if __name__ == "__main__":
    main()
