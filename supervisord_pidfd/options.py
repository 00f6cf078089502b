"""The daemon command's words: what the user asked for, or what is wrong with it.

Parsed by hand: argparse would be the heaviest import of the core process, for one verb.
"""

from typing import NamedTuple

from supervisord_pidfd.errors import UsageError

USAGE = """\
usage: supervisord-pidfd run [-c FILE] [--set KEY=VALUE]... [--pid1 auto|yes|no]
                             [--socket PATH|none] [-- CMD ARG...]
       supervisord-pidfd check [FILE] [--json] [--strict]
       supervisord-pidfd schema
       supervisord-pidfd convert FILE [--from supervisor|procfile] [-o OUT] [--strict]
       supervisord-pidfd version [--json]
"""
VERBS = ("run", "check", "schema", "convert", "version")
LATER = ("release-cgroup",)


class RunOptions(NamedTuple):
    """Hold the options of `run`; `command` is the words after `--`; `socket` may be "none"."""

    file: str | None = None
    overrides: tuple[str, ...] = ()
    pid1: str = "auto"
    socket: str | None = None
    command: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Tell whether this is a single-service init: a command and no file."""
        return bool(self.command) and self.file is None


def verb_of(words: list[str]) -> str:
    """Return the verb.

    Raises:
        UsageError: There is none, or not one that exists in this version.
    """
    if not words:
        raise UsageError(f"no verb given (one of {', '.join(VERBS)})")
    verb = words[0]
    if verb in LATER:
        raise UsageError(f"'{verb}': not available in this version")
    if verb not in VERBS:
        raise UsageError(f"unknown verb '{verb}' (one of {', '.join(VERBS)})")
    return verb


def parse_run(words: list[str]) -> RunOptions:
    """Read the words after `run`.

    Raises:
        UsageError: A word that `run` does not know, or an option without its value.
    """
    options = RunOptions()
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            if not rest:
                raise UsageError("'--' must be followed by a command")
            return options._replace(command=tuple(rest))
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if name not in {"-c", "--config", "--set", "--pid1", "--socket"}:
            hint = "; a command goes after '--'" if not word.startswith("-") else ""
            raise UsageError(f"unknown word '{word}' for 'run'{hint}")
        if not equals:
            if not rest:
                raise UsageError(f"'{name}' needs a value")
            value = rest.pop(0)
        options = _with(options, name, value)
    return options


def _with(options: RunOptions, name: str, value: str) -> RunOptions:
    if name in {"-c", "--config"}:
        return options._replace(file=value)
    if name == "--set":
        if "=" not in value:
            raise UsageError(f"'--set {value}' is not KEY=VALUE")
        return options._replace(overrides=(*options.overrides, value))
    if name == "--pid1":
        if value not in {"auto", "yes", "no"}:
            raise UsageError(f"'--pid1 {value}' is none of auto, yes, no")
        return options._replace(pid1=value)
    if not value:
        raise UsageError("'--socket' needs a path, or 'none'")
    return options._replace(socket=value)
