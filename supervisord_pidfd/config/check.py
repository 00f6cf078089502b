"""`supervisord-pidfd check`: validate as `run` would, without a daemon."""

import json
import os
import resource
import sys
from typing import NamedTuple

from supervisord_pidfd.config import child, paths
from supervisord_pidfd.config.problems import as_json, counted, has_errors, render
from supervisord_pidfd.errors import ConfigError, UsageError

USAGE = "usage: supervisord-pidfd check [FILE] [--json] [--strict]"
OK, USAGE_ERROR, INVALID = 0, 2, 6


class Options(NamedTuple):
    """Hold what the command line asks for."""

    file: str | None = None
    as_json: bool = False
    strict: bool = False


def main(argv: list[str]) -> int:
    """Check a configuration; return the exit code: 0, 2 for wrong usage, 6 if it is invalid."""
    try:
        options = _options(argv)
    except UsageError as error:
        sys.stderr.write(f"supervisord-pidfd: {error}\n{USAGE}\n")
        return USAGE_ERROR
    try:
        reply = child.load_blocking(_request(options))
    except (ConfigError, OSError) as error:
        sys.stderr.write(f"supervisord-pidfd: {error}\n")
        return INVALID
    problems = reply.problems
    if options.strict:
        problems = tuple(problem._replace(severity="error") for problem in problems)
    good = not has_errors(problems)
    if options.as_json:
        answer = {
            "format": 1, "ok": good, "services": reply.service_count, "files": list(reply.files),
            "problems": [as_json(problem) for problem in problems],
        }  # fmt: skip
        sys.stdout.write(json.dumps(answer) + "\n")
        return OK if good else INVALID
    if problems:
        sys.stderr.write(render(problems))
    if good:
        files = counted(len(reply.files), "file")
        sys.stdout.write(f"ok: {counted(reply.service_count, 'service')} in {files}\n")
    return OK if good else INVALID


def _options(argv: list[str]) -> Options:
    """Read the arguments.

    Raises:
        UsageError: One is unknown, lacks its value, or names a second file.
    """
    options = Options()
    words = iter(argv)
    for word in words:
        if word == "--json":
            options = options._replace(as_json=True)
        elif word == "--strict":
            options = options._replace(strict=True)
        else:
            file = next(words, None) if word == "-c" else word
            if file is None:
                raise UsageError("-c needs a file")
            if word != "-c" and word.startswith("-"):
                raise UsageError(f"unknown option '{word}'")
            if options.file is not None:
                raise UsageError("check takes one file")
            options = options._replace(file=file)
    return options


def _request(options: Options) -> child.Request:
    uid = os.getuid()
    return child.Request(
        file=options.file or paths.default_file(uid, os.environ),
        uid=uid,
        pid1=False,
        start_dir=os.getcwd(),
        # The daemon raises its soft limit to the hard one.
        max_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
    )
