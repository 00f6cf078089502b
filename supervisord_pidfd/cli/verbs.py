"""Every verb of `pidfdctl`, declared once, for the parser, the help and the completion."""

from collections.abc import Callable
from typing import NamedTuple

from supervisord_pidfd.errors import UsageError


class Option(NamedTuple):
    """Describe one option; `metavar` None makes it a switch.

    `read` turns the word into the value; it raises UsageError for a word that is none.
    """

    flags: tuple[str, ...]
    help: str
    metavar: str | None = None
    read: Callable[[str], object] = str
    choices: tuple[str, ...] = ()

    @property
    def key(self) -> str:
        """Return the name of the value: that of the long flag."""
        return self.flags[-1].lstrip("-").replace("-", "_")


class Verb(NamedTuple):
    """Describe one verb.

    `operands` is as the help shows it, `least` and `most` how many words that may be (most None:
    any number). `doing` is how an error names what was tried: `{}` stands for the names, and
    `bare` is for when there are none. `method` is what it calls. `codes` are its exit codes
    beside 0, 2 and those that any call may end with.
    """

    name: str
    help: str
    doing: str
    method: str | None
    aliases: tuple[str, ...] = ()
    operands: str = ""
    least: int = 0
    most: int | None = 0
    options: tuple[Option, ...] = ()
    codes: tuple[int, ...] = ()
    bare: str | None = None

    @property
    def takes_names(self) -> bool:
        """Tell whether its operands are names of services."""
        return "NAME" in self.operands


# -- how words become values ----------------------------------------------------------------------


def duration(word: str) -> float:
    """Read seconds.

    Raises:
        UsageError: It is no length of time.
    """
    from supervisord_pidfd.config import units  # noqa: PLC0415 - 4 ms that most commands need not

    try:
        return units.parse_duration(word)
    except units.NotAUnitError as error:
        raise UsageError(f"{error.message} ({error.hint})") from None


def length_of_time(word: str) -> str:
    """Check a length of time, and leave it as it was written: the daemon reads it.

    Raises:
        UsageError: It is none.
    """
    duration(word)
    return word


def age_or_number(word: str) -> str:
    """Check a length of time or the number of an event, and leave it as it was written.

    Raises:
        UsageError: It is neither.
    """
    return word if word.isascii() and word.isdigit() else length_of_time(word)


def count(word: str) -> int:
    """Read a number of things, 0 or more.

    Raises:
        UsageError: It is none.
    """
    if not (word.isascii() and word.isdigit() and len(word) < 10):
        raise UsageError(f"not a number: '{word}'")
    return int(word)


def whole(word: str) -> int:
    """Read a whole number, which may be negative.

    Raises:
        UsageError: It is none.
    """
    return -count(word[1:]) if word.startswith("-") else count(word)


def signal_number(word: str) -> int:
    """Read a signal by name or number.

    Raises:
        UsageError: There is none.
    """
    from supervisord_pidfd.config import units  # noqa: PLC0415 - as above

    try:
        return units.parse_signal(int(word) if word.isdigit() and len(word) < 4 else word)
    except units.NotAUnitError as error:
        raise UsageError(f"{error.message} ({error.hint})") from None


# -- options --------------------------------------------------------------------------------------

SHELLS = ("bash", "zsh", "fish")
GOALS = ("ready", "running", "healthy", "stopped")
FORMATS = ("tree", "json", "mermaid")
SORTS = ("cpu", "rss", "fds", "restarts")
LEVELS = ("alive", "ready")

SOCKET = Option(("-s", "--socket"), "the daemon's control socket", "PATH")
JSON = Option(("--json",), "print JSON instead of text")
NO_COLOR = Option(("--no-color",), "print the phases without colour")
QUIET = Option(("-q", "--quiet"), "print errors only")
HELP = Option(("-h", "--help"), "print how a verb is used, and end")
VERSION = Option(("--version",), "the same as the verb `version`")
GLOBAL = (SOCKET, JSON, NO_COLOR, QUIET, HELP, VERSION)

ALL = Option(("--all",), "all services")
ONLY = Option(("--only",), "leave what depends on it, or what it needs, alone")
NO_WAIT = Option(("--no-wait",), "do not wait until it is done")
TIMEOUT = Option(("--timeout",), "wait no longer than this; the change goes on", "D", duration)
SETTLE = Option(
    ("--settle",), "a service without a readiness check must stay up so long [1s]", "D", duration
)
FOLLOW = Option(("-f", "--follow"), "go on with what comes")
_WAITING = (NO_WAIT, TIMEOUT)

# -- verbs ----------------------------------------------------------------------------------------

VERBS: tuple[Verb, ...] = (
    Verb(
        "status", "show the services; one service with all that is known of it", "show {}",
        "Status", ("ps", "ls", "list"), "[NAME…]", 0, None,
        (
            Option(("--all",), "with the daemon's own services"),
            Option(("--watch",), "show it again every second; q ends"),
            Option(("--check",), "exit 3 if a service that should be up is not ready"),
            Option(("--columns",), "show these columns", "A,B"),
            Option(("--no-header",), "without the line of titles and the line of counts"),
            Option(("--names",), "print names only, one per line"),
        ),
        codes=(3,), bare="show the services",
    ),
    Verb(
        "start", "start services, and what they require; done when they are ready", "start {}",
        "Start", (), "NAME…", 1, None, (ALL, ONLY, *_WAITING, SETTLE), codes=(1, 5),
    ),
    Verb(
        "stop", "stop what requires them, then services; done when no process is left",
        "stop {}", "Stop", (), "NAME…", 1, None, (ALL, ONLY, *_WAITING), codes=(1, 5),
    ),
    Verb(
        "restart", "stop services and start them again", "restart {}", "Restart", (), "NAME…",
        1, None,
        (
            ALL,
            Option(("--rolling",), "one instance at a time, each ready before the next"),
            ONLY, *_WAITING, SETTLE,
        ),
        codes=(1, 5),
    ),
    Verb(
        "reload", "tell services to reload themselves; their processes stay", "reload {}",
        "Reload", (), "NAME…", 1, None, (ALL, *_WAITING), codes=(1, 5),
    ),
    Verb(
        "signal", "send a signal to the main process of services", "signal {}", "Signal", (),
        "SIG NAME…", 2, None,
        (ALL, Option(("--group",), "send it to the whole process group")), codes=(1,),
    ),
    Verb(
        "kill", "as signal; without SIG it is TERM", "signal {}", "Signal", (), "[SIG] NAME…", 1,
        None, (ALL, Option(("--group",), "send it to the whole process group")), codes=(1,),
    ),
    Verb(
        "freeze", "hold all processes of services", "freeze {}", "Freeze", (), "NAME…", 1, None,
        (ALL,), codes=(1,),
    ),
    Verb(
        "thaw", "release what was frozen", "thaw {}", "Thaw", (), "NAME…", 1, None, (ALL,),
        codes=(1,),
    ),
    Verb(
        "reset", "make failed services stopped and forget their attempts; starts nothing",
        "reset {}", "Reset", (), "NAME…", 1, None, (ALL,), codes=(1,),
    ),
    Verb(
        "wait", "wait until services are there, or until a change is done", "wait for {}",
        "Wait", (), "[NAME…]", 0, None,
        (
            ALL,
            Option(("--for",), "what to wait for [ready]", "GOAL", choices=GOALS),
            Option(("--change",), "wait for this change instead", "ID", count),
            TIMEOUT,
        ),
        codes=(1, 5), bare="wait",
    ),
    Verb(
        "is-running", "tell by the exit code whether all of them are running", "look at {}",
        "Status", (), "NAME…", 1, None, (ALL,), codes=(3,),
    ),
    Verb(
        "is-ready", "tell by the exit code whether all of them are ready", "look at {}",
        "Status", (), "NAME…", 1, None, (ALL,), codes=(3,),
    ),
    Verb(
        "is-failed", "tell by the exit code whether any of them has failed", "look at {}",
        "Status", (), "NAME…", 1, None, (ALL,), codes=(3,),
    ),
    Verb(
        "health", "tell whether the daemon, and what it should keep up, is well",
        "ask for health", "Health", options=(
            Option(("--level",), "`alive`: the daemon answers [ready]", "LEVEL", choices=LEVELS),
        ),
        codes=(1,),
    ),
    Verb(
        "logs", "show what services wrote", "show the log of {}", "Logs", ("tail",), "[NAME…]",
        0, None,
        (
            ALL, FOLLOW,
            Option(("-n", "--lines"), "the last so many lines [100]", "N", count),
            Option(("--since",), "only what is younger", "D", length_of_time),
            Option(("--stdout",), "only standard output"),
            Option(("--stderr",), "only standard error"),
            Option(("--run",), "only this run; -1 is the run before", "N", whole),
            Option(("--raw",), "as it was written, control characters too"),
            Option(("--reopen",), "open log files anew, after they were moved"),
        ),
        codes=(1,), bare="show logs",
    ),
    Verb(
        "events", "show what happened", "show the events of {}", "Events", ("monitor",),
        "[NAME…]", 0, None,
        (
            ALL, FOLLOW,
            Option(("-n", "--lines"), "the last so many events [50]", "N", count),
            Option(
                ("--since",), "only what is younger, or follows this number", "D|SEQ",
                age_or_number,
            ),
        ),
        bare="show events",
    ),
    Verb(
        "explain", "say why a service is as it is, and what to do", "explain {}", "Explain",
        ("why",), "NAME", 1, 1,
    ),
    Verb(
        "history", "show the last runs of a service", "show the history of {}", "History", (),
        "NAME", 1, 1, (Option(("-n", "--lines"), "the last so many runs [20]", "N", count),),
    ),
    Verb(
        "deps", "show what needs what", "show the dependencies of {}", "Dependencies",
        ("graph",), "[NAME]", 0, 1,
        (
            Option(("--reverse",), "show what needs it instead"),
            Option(("--format",), "how to print it [tree]", "FORMAT", choices=FORMATS),
        ),
        bare="show dependencies",
    ),
    Verb(
        "top", "show what services use, every two seconds", "show usage", "Status", ("monit",),
        options=(
            Option(("--once",), "show it once"),
            Option(("--sort",), "what comes first [cpu]", "KEY", choices=SORTS),
        ),
    ),
    Verb(
        "plan", "show what `apply` would do; changes nothing", "plan", "Plan", ("reread",),
        "[FILE]", 0, 1, codes=(6,),
    ),
    Verb(
        "apply", "load the configuration and act on what changed", "apply the configuration",
        "Apply", ("update",), options=(
            Option(("--only",), "only this service; may be repeated", "NAME"),
            Option(("--no-restart",), "leave restarts for later"),
            Option(("--expect",), "refuse another plan than this one", "DIGEST"),
            *_WAITING,
        ),
        codes=(1, 5, 6),
    ),
    Verb(
        "show", "print the effective configuration of a service as TOML", "show {}", "Show",
        ("cat", "describe", "info"), "NAME", 1, 1,
        (Option(("--origin",), "say where each key comes from"),),
    ),
    Verb(
        "sd", "print the Prometheus targets of services with a metrics_port", "list targets",
        "Discovery", options=(Option(("--host",), "the host in the targets", "H"),),
    ),
    Verb(
        "shutdown", "stop everything and end the daemon", "shut down", "Shutdown", ("quit",),
        options=(NO_WAIT,), codes=(1,),
    ),
    Verb(
        "reexec", "replace the daemon by the installed version; services stay", "reexec",
        "Reexec", codes=(1,),
    ),
    Verb("version", "tell the version of client and daemon", "tell the version", None),
    Verb(
        "completion", "print the completion script of a shell", "print the completion", None, (),
        "bash|zsh|fish", 1, 1,
    ),
)  # fmt: skip

BY_WORD = {word: verb for verb in VERBS for word in (verb.name, *verb.aliases)}

EXIT_CODES = {
    0: "done, or the predicate is true; starting what runs and stopping what is down is done",
    1: "the command ran, but at least one service did not get there, or the daemon refused",
    2: "the command line is wrong",
    3: "the predicate is false",
    4: "no such service; nothing was done",
    5: "timed out waiting; the change goes on, and its number is printed (1 wins over 5)",
    6: "the configuration is invalid",
    7: "the daemon cannot be reached, or gave no answer within 10 seconds",
    8: "permission denied, also to connect",
    130: "interrupted: the wait ended, not the change",
    141: "whoever read the output has gone away",
}

HINTS = {
    "add": "'apply' loads the file and starts what is new",
    "remove": "take it out of the file, then 'apply'; 'stop NAME' only stops it",
    "clear": "'reset NAME' clears a failure; log files rotate by log.rotate_size",
    "help": "'pidfdctl --help' lists the verbs, 'pidfdctl VERB --help' tells more of one",
    "fg": "'logs -f NAME' follows what it writes",
    "open": "'-s SOCKET' talks to another daemon",
    "avail": "'status' lists the services; 'plan' what the file would add",
    "pid": "'status --columns PID --no-header NAME' prints it",
}
"""Verbs of other supervisors, and what does that here; a hint names the right one."""
