"""The command line of `supervisord-pidfd convert`: which file, what it is, and where it goes."""

import os
import re
import stat
import sys
from typing import NamedTuple

from supervisord_pidfd.config.problems import counted, escaped
from supervisord_pidfd.convert import procfile, supervisor
from supervisord_pidfd.convert.draft import LOST, Draft
from supervisord_pidfd.convert.source import SourceError, read_text
from supervisord_pidfd.errors import UsageError

USAGE = """\
usage: supervisord-pidfd convert FILE [--from supervisor|procfile] [-o OUT] [--strict]\
"""
KINDS = ("supervisor", "procfile")
OK, LEFT_OUT, USAGE_ERROR, UNREADABLE = 0, 1, 2, 6

_SUPERVISOR = re.compile(
    r"^\[(supervisord|supervisorctl|unix_http_server|inet_http_server|include"
    r"|(program|group|eventlistener|fcgi-program|rpcinterface):.*)\]",
    re.MULTILINE,
)
_PROCFILE = re.compile(r"(?:\s*(?:#.*)?\n|[A-Za-z0-9_-]+:\s*\S.*\n)+")


class Options(NamedTuple):
    """Hold what the command line asks for; `kind` is empty if it is to be guessed."""

    file: str
    kind: str = ""
    out: str | None = None
    strict: bool = False


def main(argv: list[str]) -> int:
    """Convert a file; return the exit code."""
    try:
        options = _options(argv)
        text = read_text(options.file)
        kind = options.kind or guess(options.file, text)
        draft = Draft()
        CONVERTERS[kind](text, options.file, read_text, draft)
        return _deliver(options, draft, kind)
    except UsageError as error:
        _say(f"supervisord-pidfd: {escaped(str(error))}")
        _say(USAGE)
        return USAGE_ERROR
    except SourceError as error:
        _say(f"supervisord-pidfd: {escaped(str(error))}")
        return UNREADABLE


def guess(file: str, text: str) -> str:
    """Say what a file is, by its name and by what is in it.

    Raises:
        UsageError: It may be anything.
    """
    name = os.path.basename(file)
    if name == "Procfile" or name.startswith("Procfile."):
        return "procfile"
    if _SUPERVISOR.search(text):
        return "supervisor"
    if _PROCFILE.fullmatch(f"{text}\n"):
        return "procfile"
    raise UsageError(f"cannot tell what {file} is: write --from {'|'.join(KINDS)}")


def _deliver(options: Options, draft: Draft, kind: str) -> int:
    """Print or write the file, and tell what it lacks.

    Raises:
        UsageError: It would take the place of a file.
    """
    if not options.kind:
        _say(f"supervisord-pidfd: {escaped(options.file)} is taken for {_CALLED[kind]}")
    head = [f"Converted from {options.file} ({_CALLED[kind]}) by supervisord-pidfd convert."]
    text = draft.render(head)
    if options.out is None or options.out == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
    else:
        _write(options, text)
    for remark in sorted(draft.remarks, key=lambda one: (one.option.file, one.option.line)):
        _say(str(remark))
    lost = sum(remark.kind == LOST for remark in draft.remarks)
    if lost:
        _say(f"supervisord-pidfd: {counted(lost, 'thing')} not converted")
    return LEFT_OUT if lost and options.strict else OK


def _write(options: Options, text: str) -> None:
    """Write a file that was not there, which nobody may read who may not read the source."""
    out = str(options.out)
    try:
        mode = stat.S_IMODE(os.stat(options.file).st_mode) & 0o644
        fd = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode | 0o600)
        with open(fd, "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(f"{out} is there already, and is left as it is") from None
    except OSError as error:
        raise UsageError(f"cannot write {out}: {(error.strerror or 'error').lower()}") from None


def _options(argv: list[str]) -> Options:
    """Read the arguments.

    Raises:
        UsageError: One is unknown, lacks its value, or names a second file.
    """
    options = Options("")
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if word == "--strict":
            options = options._replace(strict=True)
        elif name in {"--from", "-o", "--output"}:
            value = value if equals else next(words, "")
            if not value:
                raise UsageError(f"{name} needs a value")
            if name == "--from" and value not in KINDS:
                raise UsageError(f"'--from {value}' is none of {', '.join(KINDS)}")
            from_ = name == "--from"
            options = options._replace(kind=value) if from_ else options._replace(out=value)
        elif word.startswith("-"):
            raise UsageError(f"unknown option '{word}'")
        elif options.file:
            raise UsageError("convert takes one file")
        else:
            options = options._replace(file=word)
    if not options.file:
        raise UsageError("convert needs a file")
    return options


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


_CALLED = {
    "supervisor": "a Supervisor configuration", "procfile": "a Procfile",
}  # fmt: skip
CONVERTERS = {"supervisor": supervisor.convert, "procfile": procfile.convert}
