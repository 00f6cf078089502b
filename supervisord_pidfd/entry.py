"""The daemon command: which verb, and for `run` the first steps of a start, in their order.

Signals are noted from the first line of `main` on (PID 1 gets none that has no handler). Then
descriptors, limits and dispositions are taken over, and the config child is forked before most of
the daemon is imported: the child imports pydantic and reads the file on one processor while the
parent imports the rest on another. After that everything happens in the loop of `daemon`.
"""

import contextlib
import os
import sys

from supervisord_pidfd import host, signals
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.config import child as config_child
from supervisord_pidfd.config import paths
from supervisord_pidfd.errors import StartupError, UsageError
from supervisord_pidfd.options import USAGE, RunOptions, parse_run, verb_of

EXIT_USAGE, EXIT_CANNOT_START = 2, 7


def main(words: list[str] | None = None) -> int:
    """Run the daemon command and return its exit code."""
    words = sys.argv[1:] if words is None else words
    try:
        verb = verb_of(words)
        if verb == "run":
            signals.HELD.hold(signals.HANDLED)
            return _run(parse_run(words[1:]))
        return _one_shot(verb, words[1:])
    except UsageError as error:
        host.say(f"{error}\n\n{USAGE.rstrip()}")
        return EXIT_USAGE


def _one_shot(verb: str, words: list[str]) -> int:
    """Do what needs no daemon; these import what they need, the daemon never does."""
    if verb == "check":
        from supervisord_pidfd.config.check import main as check  # noqa: PLC0415

        return check(words)
    if verb == "schema":
        from supervisord_pidfd.config.schema import main as schema  # noqa: PLC0415

        return schema(words)
    if verb == "convert":
        from supervisord_pidfd.convert.main import main as convert  # noqa: PLC0415

        return convert(words)
    from supervisord_pidfd.versions import main as version  # noqa: PLC0415

    return version(words)


def _run(options: RunOptions) -> int:
    """Take the process over, have the configuration loaded, and be the daemon."""
    begun = SystemClock.now()
    process = host.take_over()
    signals.reset_inherited(() if options.single else signals.IGNORED | signals.REALTIME)
    pid1 = os.getpid() == 1 if options.pid1 == "auto" else options.pid1 == "yes"
    request = _request(options, process, pid1=pid1)
    first = None
    with contextlib.suppress(OSError):  # tried, and told, again by the daemon
        first = config_child.start_loading(request)

    from supervisord_pidfd.daemon import Daemon, Launch  # noqa: PLC0415 - beside the child

    daemon = Daemon(Launch(options, process, request, first, begun, pid1))
    try:
        return daemon.run()
    except StartupError as error:
        host.say(str(error))
        return EXIT_CANNOT_START
    finally:
        daemon.close()


def _request(options: RunOptions, process: host.Process, *, pid1: bool) -> config_child.Request:
    """Say what the config child is to load."""
    file = options.file
    if file is None and not options.single:
        file = paths.default_file(process.uid, process.environ)
    return config_child.Request(
        file=file,
        overrides=options.overrides,
        command=options.command,
        uid=process.uid,
        pid1=pid1,
        start_dir=process.start_dir,
        runtime_dir=paths.default_runtime_dir(process.uid, process.environ),
        log_dir=paths.default_log_dir(process.uid, process.environ),
        max_files=process.files.hard,
        auto_to=host.suitable_sinks(process.environ, pid1=pid1, terminal=os.isatty(1)),
    )
