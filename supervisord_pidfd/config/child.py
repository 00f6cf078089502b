"""Load the configuration in a short-lived child, so that no file can stop or swell the core.

The child makes its own session, has default signals, no descriptor but its pipe, and runs under
rlimits: a parser bomb ends it, and nothing else. The core never waits for it: the reading end of
the pipe and the child's pidfd stand in its epoll, and it ends a child that is too slow. What comes
back is one JSON object; end of file without a whole one means that the child died.

This module is imported by the core, and imports the standard library only. pydantic and tomli are
imported after the fork, by the child alone.
"""

import json
import os
import re
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

from supervisord_pidfd import __version__
from supervisord_pidfd.config.problems import Problem, has_errors, render
from supervisord_pidfd.core.spec import ServiceSpec, SupervisorSpec, load
from supervisord_pidfd.errors import ConfigError, OtherVersionError

__all__ = [
    "DEADLINE_S", "Loading", "Problem", "Reply", "Request", "has_errors", "load_blocking",
    "parse_reply", "render", "start_loading",
]  # fmt: skip

DEADLINE_S = 30.0
"""How long the core gives a child before it kills it."""
MAX_MEMORY = 512 << 20
"""Bytes of address space for a child, beside what the process has that it was forked from."""
MAX_CPU_S = 10
MAX_REPLY = 64 << 20
CHANNEL_VERSION = 1


class Request(NamedTuple):
    """Say what to load, and the facts of the daemon that the configuration may lean on.

    `file` is None in single-service mode; `overrides` are `--set KEY=VALUE`; `command` are the
    words after `--`; `start_dir` is where the daemon was started; `max_files` how many descriptors
    the daemon may have; `auto_to` are the sinks that `log.to = ["auto"]` means. `all_keys` lets
    keys through that nothing acts on yet, see `later.py`.
    """

    file: str | None
    uid: int
    pid1: bool
    start_dir: str
    overrides: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    runtime_dir: str | None = None
    log_dir: str | None = None
    max_files: int = 1024
    auto_to: tuple[str, ...] = ("file",)
    all_keys: bool = False


class Loading(NamedTuple):
    """Hold a child at work: its pid, and the reading end of its pipe (owned by the caller)."""

    pid: int
    fd: int


class Reply(NamedTuple):
    """Hold what the child found; with an error among `problems`, there are no services.

    `service_count` is the number of services that the files define, instances counted one by one.
    """

    supervisor: SupervisorSpec
    services: tuple[ServiceSpec, ...]
    problems: tuple[Problem, ...]
    files: tuple[str, ...]
    digest: str
    service_count: int = 0

    @property
    def ok(self) -> bool:
        """Tell whether the configuration can be used."""
        return not has_errors(self.problems)


def start_loading(request: Request) -> Loading:
    """Fork the child; the caller owns the descriptor, and reaps or kills the child.

    Raises:
        OSError: There is no descriptor or process to be had.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        pid = os.fork()
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    if pid == 0:  # pragma: no cover - leaves by _exit, where nothing is measured
        _child(request, writer)
    os.close(writer)
    os.set_blocking(reader, False)
    return Loading(pid, reader)


def parse_reply(data: bytes) -> Reply:
    """Build the reply of what the child wrote until end of file.

    Raises:
        ConfigError: The child died, or speaks another version.
    """
    try:
        plain = json.loads(data)
        program = plain.get("program", __version__)
        if (plain["version"], program) != (CHANNEL_VERSION, __version__):
            raise OtherVersionError(
                "the installed version differs from the running one: pidfdctl reexec"
            )
        return Reply(
            load(SupervisorSpec, plain["supervisor"]),
            tuple(load(ServiceSpec, _shared(service)) for service in plain["services"]),
            tuple(load(Problem, problem) for problem in plain["problems"]),
            tuple(plain["files"]),
            plain["digest"],
            plain["count"],
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ConfigError(
            "cannot load the configuration: its reader died before it had answered"
        ) from error


def _shared(service: dict[str, Any]) -> dict[str, Any]:
    """Let the copies of one service share their longest texts."""
    for name in ("origin", "written"):
        if name in service:
            service[name] = sys.intern(service[name])
    return service


def load_blocking(request: Request, deadline_s: float = DEADLINE_S) -> Reply:
    """Load a configuration and wait for it: for `check`, which is no daemon.

    Raises:
        ConfigError: The child died, or was killed because it took too long.
        OSError: There is no descriptor or process to be had.
    """
    loading = start_loading(request)
    end = time.monotonic() + deadline_s
    try:
        data = _read_until(loading.fd, end)
    finally:
        os.close(loading.fd)
        if time.monotonic() >= end:
            os.kill(loading.pid, signal.SIGKILL)  # unreaped, so the pid is still its own
        os.waitpid(loading.pid, 0)
    if data is None:
        raise ConfigError(f"cannot load the configuration: no answer within {deadline_s:g}s")
    return parse_reply(data)


def _read_until(fd: int, end: float) -> bytes | None:
    """Read a nonblocking descriptor to its end; None if the moment passes first."""
    pieces: list[bytes] = []
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    while poller.poll(max(0.0, end - time.monotonic()) * 1000):
        piece = os.read(fd, 1 << 20)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    return None


# -- for the child --------------------------------------------------------------------------------

APART_S = 2.0
_apart_timed_out: list[bool] = []


def run_apart(work: Callable[[], bytes]) -> bytes | None:
    """Run a function that may hang in a process of its own; None if it took too long.

    The child calls it, for files on filesystems that may not answer. After the first that does
    not, no other is tried: their waits would add up beyond the core's deadline.
    """
    if _apart_timed_out:
        return None
    reader, writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    pid = os.fork()
    if pid == 0:  # pragma: no cover - leaves by _exit
        status = 1
        try:
            os.dup2(writer, 3)  # not the pipe to the core, which must see our end of file
            os.set_blocking(3, True)
            os.closerange(4, 64)
            _write(3, work())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    try:
        answer = _read_until(reader, time.monotonic() + APART_S)
    finally:
        os.close(reader)
    if answer is None:
        _apart_timed_out.append(True)
        os.kill(pid, signal.SIGKILL)  # not waited for: what hangs in the kernel may outlive us
    else:
        os.waitpid(pid, 0)
    return answer


# -- in the child ---------------------------------------------------------------------------------


def _child(request: Request, writer: int) -> NoReturn:  # pragma: no cover - leaves by _exit
    """Be the child: never return to the code of the core, whatever happens."""
    status = 1
    try:
        _isolate(writer)
        opening = {"version": CHANNEL_VERSION, "program": installed_version()}
        # What another version made of the file, with modules of its own, is nothing for the core.
        reply = _load(request) if opening["program"] == __version__ else {}
        _write(3, json.dumps({**opening, **reply}).encode())
        status = 0
    except BaseException:  # noqa: BLE001, S110 - a short answer is how the core learns of it
        pass
    finally:
        os._exit(status)


def installed_version(package: str = os.path.dirname(os.path.dirname(__file__))) -> str:
    """Read which version of the program the files on disk are; this one, where they do not say."""
    try:
        with open(os.path.join(package, "__init__.py"), encoding="utf-8") as file:
            text = file.read(65536)
    except (OSError, ValueError):  # such as a package in an archive
        return __version__
    match = re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE)
    return match[1] if match else __version__


def _isolate(writer: int) -> None:  # pragma: no cover - in the child alone
    """Leave everything of the core behind; afterwards descriptor 3 is the pipe."""
    signal.set_wakeup_fd(-1)
    for signum in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.setsid()
    os.dup2(writer, 3)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    os.closerange(4, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    for kind, most in (
        (resource.RLIMIT_AS, _address_space() + MAX_MEMORY),
        (resource.RLIMIT_CPU, MAX_CPU_S),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(kind, most)


def _address_space() -> int:  # pragma: no cover - in the child alone
    """Return how many bytes of addresses are taken already; 0 where /proc cannot say."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _limit(kind: int, most: int) -> None:  # pragma: no cover - in the child alone
    _, hard = resource.getrlimit(kind)
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def _load(request: Request) -> dict[str, Any]:
    """Run the pass; what it cannot survive is a problem like any other."""
    import gc  # noqa: PLC0415 - the child alone needs it

    gc.disable()  # it ends before there is anything worth collecting
    _without_plugins()
    name = request.file or "--"
    try:
        from supervisord_pidfd.config import load as loading  # noqa: PLC0415 - after the fork

        return loading.load(request)
    except (MemoryError, RecursionError):
        return _failed(
            name, "too-large", "cannot load the configuration: it takes too much memory"
        )
    except Exception as error:  # noqa: BLE001 - a bug of ours must not look like a good file
        kind = type(error).__name__  # not its text, which may hold a secret
        return _failed(name, "syntax", f"cannot load the configuration: internal error: {kind}")


def _without_plugins() -> None:
    """Spare pydantic the search for its plugins, which are not ours.

    To look for them it reads the metadata of every installed distribution, when the first model is
    built: 35 of 130 ms in an environment with the tools of the tests. Its own switch is an
    environment variable, which services would inherit, and still costs the import of the reader.
    Should pydantic rename the module, the search is back and nothing else changes.
    """
    name = "pydantic.plugin._loader"
    stand_in: Any = type(sys)(name)
    stand_in.get_plugins = tuple
    sys.modules.setdefault(name, stand_in)


def _failed(name: str, code: str, message: str) -> dict[str, Any]:
    problem = {
        "file": name, "line": 1, "column": 1, "severity": "error", "code": code, "key": None,
        "message": message,
    }  # fmt: skip
    return {
        "supervisor": {}, "services": [], "problems": [problem], "files": [], "digest": "",
        "count": 0,
    }  # fmt: skip


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
