r"""Run the checker: settings, no privileges, then probe what the core asks until it is gone.

The channel is the inherited socket pair of the helpers. It opens with an integer; then follow JSON
objects, each ended by NUL. From the core:

    {"settings": {"user": …}}
    {"watch": N, "kind": "tcp" | "http" | "file", "target": …, "period": …, "timeout": …, …}
    {"unwatch": N}
    {"ask": N, "calendar": …, "timezone": … | null, "after": UNIX}

To the core:

    {"verdict": N, "ok": …, "error": …, "timed_out": …, "took_s": …}
    {"answer": N, "next": UNIX | null, "error": … | null}
"""

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn

from supervisord_pidfd import privileges
from supervisord_pidfd.channel import Channel
from supervisord_pidfd.checker.calendar import CalendarError, next_time
from supervisord_pidfd.checker.runner import Runner, watch_from
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.errors import StartupError

_STDERR = 2
_RESOLVERS = 32
"""Names are resolved in so many threads: a resolver that hangs holds up one name at a time."""


async def run(fd: int) -> None:
    """Probe until the core closes its end of the channel, or SIGTERM.

    Raises:
        StartupError: The checker cannot run like this.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_swallow)
    loop.set_default_executor(ThreadPoolExecutor(_RESOLVERS, "resolve"))
    logging.getLogger("asyncio").disabled = True
    channel = await Channel.open(fd)
    runner = Runner(
        SystemClock(),
        lambda ident, verdict: channel.send({"verdict": ident, **verdict._asdict()}),
    )
    following = asyncio.create_task(_follow(channel, runner))
    loop.add_signal_handler(signal.SIGTERM, following.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError, EOFError):
            await following
    finally:
        await runner.close()
        channel.close()


async def _follow(channel: Channel, runner: Runner) -> None:
    settings = await channel.settings()
    privileges.drop(settings["user"])
    while True:
        _take(await channel.next(), channel, runner)


def _take(message: dict[str, Any], channel: Channel, runner: Runner) -> None:
    if "watch" in message:
        runner.watch(watch_from(message))
    elif "unwatch" in message:
        runner.unwatch(int(message["unwatch"]))
    elif "ask" in message:
        moment, error = None, None
        try:
            moment = next_time(message["calendar"], message["timezone"], message["after"])
        except CalendarError as cannot:
            error = str(cannot)
        channel.send({"answer": message["ask"], "next": moment, "error": error})


def _swallow(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line what asyncio would say in twenty; the loop goes on."""
    _complain(f"checker: {context.get('message')}: {context.get('exception')!r}")


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens there; the exit code says it too
        os.write(_STDERR, text.encode("utf-8", "backslashreplace") + b"\n")


def _raise_file_limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(argv: list[str]) -> int:
    """Run the checker; return its exit code."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="supervisord_pidfd.checker")
    parser.add_argument("--fd", type=int, required=True, help="the channel to the core")
    options = parser.parse_args(argv)
    _raise_file_limit()
    # Not asyncio.run: its end waits for the threads of the executor, one of which a dead mount or
    # a resolver may hold for ever.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(run(options.fd))
    except StartupError as error:
        _complain(str(error))
        return 1
    except (KeyError, TypeError, ValueError, asyncio.LimitOverrunError) as error:
        _complain(f"checker: cannot read the channel: {error!r}")
        return 1
    return 0


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the checker and leave at once: no thread that hangs is waited for."""
    code = 1
    try:
        code = serve(sys.argv[1:] if argv is None else argv)
    except SystemExit as error:  # a wrong command line
        code = error.code if isinstance(error.code, int) else 1
    finally:
        os._exit(code)
