r"""Start a program, step by named step: two paths, one outcome.

The fast path is `os.posix_spawn`: vfork inside, so the same 0.4 ms whatever the core weighs, and
it works with no free descriptor. The core sleeps until the child has executed; so this path is
only for programs on local filesystems that need nothing but a session, standard descriptors, an
umask and an environment. Errors come back as the errno of the call, all of them stage `exec`.

The second path forks the small single-threaded core and does the rest in the child, in the order
of `Stage`, each step failing closed. It never waits: the child reports over a close-on-exec pipe
that the loop watches. What the pipe says when it ends:

    "!STAGE\0ERRNO\0SUBJECT"    this stage failed; nothing was executed
    "E"                        the program was executed (the pipe closed with the exec)
    ""                         killed before that

Only the end of the pipe is an answer, so it is watched for nothing but that (EPOLLHUP).

All signals are blocked around the fork, so one that is meant for the child cannot land in a
handler of ours that it has inherited; the child empties the mask when its dispositions are the
defaults.
"""

import enum
import errno
import fcntl
import fnmatch
import os
import resource
import select
import signal
import stat
from collections.abc import Mapping, Sequence
from typing import NamedTuple, NoReturn

from supervisord_pidfd import sysabi
from supervisord_pidfd.core.spec import Identity, LogSpec, Output, ServiceSpec
from supervisord_pidfd.orphans import owner_from_environ
from supervisord_pidfd.signals import IGNORED, REALTIME

NEVER_INHERITED = (
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID",
    "LISTEN_FDNAMES", "LISTEN_PIDFDID", "SUPERVISORD_SERVICE", "SUPERVISORD_INSTANCE",
    "SUPERVISORD_RUN", "SUPERVISORD_HOOK", "SUPERVISORD_ATTEMPT", "SUPERVISORD_NEXT_DELAY",
    "MAINPID",
)  # fmt: skip
"""Meant for the daemon itself, or set for each service anew."""

PASSED_FD, CHANNEL_FD = 3, 4
"""The number under which a helper finds its channel; the logger has a second one."""

Descriptors = Sequence[tuple[int, int]]
"""Pairs: the number in the child, and our descriptor."""

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
EXEC_FAILED = 127
_EXECUTED = b"E"
_FAILED = b"!"
_RECORD_SIZE = 4096
_RESET = tuple(sorted(int(signum) for signum in IGNORED | REALTIME))
_ENVIRON_SIZE = 1 << 20
_BEYOND_ALL = 2**31 - 1
_ALL_SIGNALS = frozenset(signal.valid_signals())
_LOCKS_LIMIT = 10  # RLIMIT_LOCKS, which the resource module leaves out
# Not waiting: of a FIFO that nobody reads the child would never come back.
_APPEND = (
    os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    | os.O_NOCTTY
)  # fmt: skip
_FILE_MODE = 0o640


class Stage(enum.StrEnum):
    """Name the steps of a start, in their order."""

    RESOLVE = "resolve"
    ENVIRONMENT = "environment"
    FORK = "fork"
    SETSID = "setsid"
    LIMITS = "limits"
    SCHEDULING = "scheduling"
    STDIO = "stdio"
    USER = "user"
    CAPABILITIES = "capabilities"
    DIRECTORY = "directory"
    EXEC = "exec"


class SpawnError(Exception):
    """Tell that a start failed: at which stage, with what, and the errno's name."""

    def __init__(self, stage: Stage | str, subject: str, error: str) -> None:
        super().__init__(f"{stage} {subject}: {error}")
        self.stage = str(stage)
        self.subject = subject
        self.error = error


class Launched(NamedTuple):
    """Hold a new child; `report` is the read end of its error pipe, None if it has executed."""

    pid: int
    report: int | None


class Asked(NamedTuple):
    """Hold a child that reads environments; `answers` is the read end of its pipe."""

    pid: int
    answers: int


class Host(NamedTuple):
    """Hold what every spawn of this daemon needs. Borrows `null`.

    Attributes:
        environ: The environment that services may inherit.
        null: A descriptor of /dev/null, or of something that behaves like it.
        soft_files, hard_files: RLIMIT_NOFILE as it was before the daemon raised its own.
        umask: The daemon's own umask.
        may_vfork: Whether posix_spawn works here; see `vfork_works`.
    """

    environ: Mapping[str, str]
    null: int
    soft_files: int
    hard_files: int
    umask: int = 0o077
    may_vfork: bool = True


def vfork_works() -> bool:
    """Tell whether posix_spawn can make a process here; without it every spawn forks.

    glibc calls clone3 and goes back to clone only on ENOSYS, but container profiles from before
    2021 answer EPERM (moby#42681). A program that is not there tells the two apart: the child must
    have existed to say ENOENT.
    """
    try:
        os.posix_spawn("/nonexistent/program", ("program",), {})
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


class Provision(NamedTuple):
    """Hold what a program is given beside what its service says.

    `environment` wins over all but SUPERVISORD_RUN. `descriptors` are pairs: the number in the
    child, and our descriptor, which is borrowed.
    """

    environment: tuple[tuple[str, str], ...] = ()
    descriptors: tuple[tuple[int, int], ...] = ()


NOTHING = Provision()


WORDS_KEPT = 4096
_words: dict[str, bytes] = {}


def encoded(word: str) -> bytes:
    """Encode a word of an environment, once for all services that inherit it."""
    found = _words.get(word)
    if found is None:
        if len(_words) >= WORDS_KEPT:  # those that hold a word keep it
            _words.clear()
        found = _words[word] = os.fsencode(word)
    return found


class Recipe:
    """Hold a service's spawn prepared once: what does not change from run to run."""

    def __init__(self, spec: ServiceSpec, host: Host, provision: Provision = NOTHING) -> None:
        self.spec = spec
        self.host = host
        self.given = provision.descriptors
        self.listens = any(name == "LISTEN_FDS" for name, _ in provision.environment)
        self.environment = environment_of(spec, host.environ) | dict(provision.environment)
        self.fast = host.may_vfork and _is_fast(spec) and _may_be_given_in_turn(self.given)
        self.fast = self.fast and not self.listens  # LISTEN_PID is known to the child alone
        self._actions = _file_actions(spec, host, self.given)
        # As bytes, which posix_spawn takes as they are: it would encode each word at each start.
        self._argv = [os.fsencode(word) for word in spec.argv]
        self._environ = {encoded(name): encoded(value) for name, value in self.environment.items()}

    def spawn(self, run: int, output: Descriptors = ()) -> Launched:
        """Start the program as run number `run`; `output` is given beside what the recipe has.

        Raises:
            SpawnError: It could not be started; nothing is left of the attempt.
        """
        fault = self.spec.fault
        if fault is not None:
            raise SpawnError(fault.stage, fault.subject, fault.error)
        if self.fast and _are_in_reach((*output, *self.given), self.host):
            self._environ[b"SUPERVISORD_RUN"] = b"%d" % run
            return self._posix_spawn(output)
        self.environment["SUPERVISORD_RUN"] = str(run)
        return self._fork(output)

    def _posix_spawn(self, output: Descriptors) -> Launched:
        host, spec = self.host, self.spec
        own = resource.getrlimit(resource.RLIMIT_NOFILE)  # somebody may have changed it (prlimit)
        os.umask(spec.umask)
        if host.soft_files < own[0]:
            resource.setrlimit(resource.RLIMIT_NOFILE, (host.soft_files, own[1]))
        try:
            pid = os.posix_spawn(
                spec.program or spec.argv[0],
                self._argv,
                self._environ,
                # First: what the recipe gives may take the numbers that these have with us.
                file_actions=[
                    *((os.POSIX_SPAWN_DUP2, fd, number) for number, fd in output),
                    *self._actions,
                ],
                setsid=True,
                setsigmask=(),
                setsigdef=_RESET,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL inside of a word
            name = errno_name(error)
            raise SpawnError(Stage.EXEC, spec.program or spec.argv[0], name) from None
        finally:
            if host.soft_files < own[0]:
                resource.setrlimit(resource.RLIMIT_NOFILE, own)
            os.umask(host.umask)
        return Launched(pid, None)

    def _fork(self, output: Descriptors) -> Launched:
        try:
            report, write_end = os.pipe2(os.O_CLOEXEC)
        except OSError as error:
            raise SpawnError(Stage.FORK, "error pipe", errno_name(error)) from None
        os.set_blocking(report, False)
        before = signal.pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS)
        try:
            pid = os.fork()
            if pid == 0:
                _be_child(self, write_end, output)
        except OSError as error:
            os.close(report)
            raise SpawnError(Stage.FORK, self.spec.argv[0], errno_name(error)) from None
        finally:
            os.close(write_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return Launched(pid, report)


def read_report(report: int) -> SpawnError | bool | None:
    """Read a child's error pipe: the failure, or whether it executed; None if still open.

    Nothing is taken out of an open pipe: what was read could not be put back for the next look.
    """
    poll = select.poll()
    poll.register(report, 0)
    if not poll.poll(0):
        return None
    said = b""
    while chunk := os.read(report, _RECORD_SIZE):
        said += chunk
    if _FAILED in said:
        return _failure(said)
    return said == _EXECUTED


def _failure(said: bytes) -> SpawnError:
    fields = said.partition(_FAILED)[2].split(b"\0")
    stage, error, subject = (field.decode("utf-8", "replace") for field in (*fields, b"", b"")[:3])
    return SpawnError(stage, subject, error)


def ask_owners(pids: Sequence[int]) -> Asked:
    """Fork a child that reads /proc/PID/environ of each and says whose it is.

    The memory of a process can be made to block its readers (a page behind a FUSE mount), so the
    core does not read it. The child writes a line "PID SERVICE RUN" for each as soon as it knows.

    Raises:
        OSError: No process or descriptor to be had.
    """
    report, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(report, False)
    before = signal.pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            _say_owners(pids, write_end)
    except OSError:
        os.close(report)
        raise
    finally:
        os.close(write_end)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return Asked(pid, report)


def _say_owners(pids: Sequence[int], report: int) -> NoReturn:
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        _close_all_but([report])
        for pid in pids:
            owner = owner_from_environ(_environ_of(pid))
            os.write(report, f"{pid} {owner.service or '-'} {owner.run}\n".encode())
    finally:
        os._exit(0)


def _environ_of(pid: int) -> bytes:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read(_ENVIRON_SIZE)
    except OSError:  # gone meanwhile, or not ours to read
        return b""


def environment_of(spec: ServiceSpec, inherited: Mapping[str, str]) -> dict[str, str]:
    """Build a service's environment, weakest source first."""
    environment = {
        name: value
        for name, value in inherited.items()
        if name not in NEVER_INHERITED and _matches(name, spec.inherit)
    }
    environment.update(spec.environment)
    if spec.unset:
        environment = {
            name: value for name, value in environment.items() if not _matches(name, spec.unset)
        }
    if spec.identity is not None:
        for name, value in _identity_variables(spec.identity):
            if name not in dict(spec.environment):
                environment[name] = value
    environment["SUPERVISORD_SERVICE"] = spec.name
    if spec.instance:
        environment["SUPERVISORD_INSTANCE"] = spec.instance
    return environment


def _identity_variables(identity: Identity) -> list[tuple[str, str]]:
    pairs = [
        ("HOME", identity.home),
        ("USER", identity.user),
        ("LOGNAME", identity.user),
        ("SHELL", identity.shell),
    ]
    return [(name, value) for name, value in pairs if value is not None]


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return patterns == ("*",) or any(fnmatch.fnmatchcase(name, glob) for glob in patterns)


def _is_fast(spec: ServiceSpec) -> bool:
    """Tell whether a vfork will do: local files, and nothing to be set but what it can set."""
    return (
        spec.fast
        and spec.program is not None
        and spec.stdin in {"null", "inherit"}
        and spec.output is not Output.DIRECT
        and spec.directory is None
        and spec.identity is None
        and not spec.limits
        and spec.nice is None
        and spec.oom_score_adjust is None
        and not spec.cpu_affinity
        and spec.sched_policy is None
        and not spec.no_new_privileges
        and spec.parent_death_signal is None
        and not spec.foreground
    )


def _may_be_given_in_turn(given: Descriptors) -> bool:
    """Tell whether no number is taken by one descriptor before another one is copied from it."""
    taken: set[int] = set()
    for number, fd in given:
        if fd in taken:
            return False
        taken.add(number)
    return True


def _are_in_reach(given: Descriptors, host: Host) -> bool:
    """Tell whether posix_spawn takes these descriptors.

    glibc refuses (EBADF) to copy from one beyond the soft limit of open files, which is that of
    the service for the time of the call; the kernel itself does not mind.
    """
    return all(fd < host.soft_files for _, fd in given)


def _file_actions(spec: ServiceSpec, host: Host, given: Descriptors) -> list[tuple[int, int, int]]:
    actions = []
    if spec.stdin == "null":
        actions.append((os.POSIX_SPAWN_DUP2, host.null, 0))
    if spec.output is Output.NULL:
        actions += [(os.POSIX_SPAWN_DUP2, host.null, fd) for fd in (1, 2)]
    actions += [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in given]
    return actions


def errno_name(error: OSError | ValueError) -> str:
    """Name the errno of a failure; a word that no call takes is EINVAL."""
    number = error.errno if isinstance(error, OSError) else errno.EINVAL
    return errno.errorcode.get(number or 0, f"errno {number}")


# -- in the child of the second path --------------------------------------------------------------


class _At:
    """Remember which stage the child is at and with what, for the report."""

    stage = Stage.FORK
    subject = ""


def _be_child(recipe: Recipe, report: int, output: Descriptors) -> NoReturn:
    """Become the service, or say over `report` what stood in the way; never return."""
    at = _At()
    try:
        # Ours go out of the way of the numbers that the service is given.
        first_free = max([2, *(number for number, _ in recipe.given)]) + 1
        if report < first_free:
            report = fcntl.fcntl(report, fcntl.F_DUPFD_CLOEXEC, first_free)
        given = [
            (number, fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, first_free) if fd < first_free else fd)
            for number, fd in (*output, *recipe.given)
        ]
        _become(recipe, given, report, at)
    except OSError as error:
        _report(report, at, errno_name(error))
    except BaseException as error:  # noqa: BLE001 - nothing may return into the copy of the core
        _report(report, at, type(error).__name__)
    finally:
        os._exit(EXEC_FAILED)


def _report(report: int, at: _At, error: str) -> None:
    record = _FAILED + b"\0".join(
        (at.stage.encode(), error.encode(), at.subject.encode("utf-8", "surrogateescape"))
    )
    os.write(report, record[:_RECORD_SIZE])


def _become(recipe: Recipe, given: Descriptors, report: int, at: _At) -> NoReturn:
    spec, host = recipe.spec, recipe.host
    signal.set_wakeup_fd(-1)
    parent = os.getppid()
    _close_all_but([report, host.null, *(fd for _, fd in given)])
    at.stage = Stage.SETSID
    _enter_session(spec)
    at.stage = Stage.LIMITS
    _set_limits(spec, host, at)
    at.stage = Stage.SCHEDULING
    _set_scheduling(spec, at)
    at.stage = Stage.STDIO
    _connect(recipe, given, at)
    if spec.identity is not None:
        at.stage, at.subject = Stage.USER, spec.identity.user or str(spec.identity.uid)
        _change_user(spec.identity)
    at.stage, at.subject = Stage.CAPABILITIES, "no_new_privileges"
    if spec.no_new_privileges:
        sysabi.set_no_new_privs()
    if spec.parent_death_signal is not None:
        sysabi.set_parent_death_signal(spec.parent_death_signal)
        if os.getppid() != parent:  # it died before the kernel was told to tell us
            os._exit(EXEC_FAILED)
    at.stage, at.subject = Stage.DIRECTORY, spec.directory or "."
    if spec.directory is not None:
        os.chdir(spec.directory)
    os.umask(spec.umask)
    for signum in _ALL_SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    at.stage = Stage.EXEC
    os.write(report, _EXECUTED)
    if recipe.listens:
        recipe.environment["LISTEN_PID"] = str(os.getpid())
    _execute(spec, recipe.environment, at)


def _close_all_but(kept: Sequence[int]) -> None:
    """Close all above 2 but these: a child that hangs before exec must hold nothing of ours."""
    keep = sorted({fd for fd in kept if fd > 2})
    for low, high in zip([2, *keep], [*keep, _BEYOND_ALL], strict=True):
        if low + 1 <= high - 1:
            sysabi.close_range(low + 1, high - 1)


def _enter_session(spec: ServiceSpec) -> None:
    """Lead a session of one's own; on a terminal the one foreground service only a group."""
    if spec.foreground and os.isatty(0):
        os.setpgid(0, 0)
        os.tcsetpgrp(0, os.getpid())  # SIGTTOU is ignored or blocked here, so it cannot stop us
    else:
        os.setsid()


def _set_limits(spec: ServiceSpec, host: Host, at: _At) -> None:
    at.subject = "nofile"
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, host.soft_files), hard))
    for limit in spec.limits:
        at.subject = limit.name
        number = getattr(resource, f"RLIMIT_{limit.name.upper()}", _LOCKS_LIMIT)
        try:
            resource.setrlimit(number, (limit.soft, limit.hard))
        except ValueError:  # the module's word for "not allowed to raise the hard limit"
            raise PermissionError(errno.EPERM, limit.name) from None


def _set_scheduling(spec: ServiceSpec, at: _At) -> None:
    if spec.nice is not None:
        at.subject = "nice"
        os.setpriority(os.PRIO_PROCESS, 0, spec.nice)
    if spec.oom_score_adjust is not None:
        at.subject = "oom_score_adjust"
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
        os.write(fd, str(spec.oom_score_adjust).encode())
        os.close(fd)
    if spec.cpu_affinity:
        at.subject = "cpu_affinity"
        os.sched_setaffinity(0, spec.cpu_affinity)
    if spec.sched_policy is not None:
        at.subject = "policy"
        policy = getattr(os, f"SCHED_{spec.sched_policy.upper()}")
        os.sched_setscheduler(0, policy, os.sched_param(spec.sched_priority))
    at.subject = ""


def _connect(recipe: Recipe, given: Descriptors, at: _At) -> None:
    spec, null = recipe.spec, recipe.host.null
    at.subject = spec.stdin.removeprefix("file:")
    if spec.stdin == "null":
        os.dup2(null, 0)
    elif spec.stdin != "inherit":
        source = os.open(at.subject, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(source).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        os.dup2(source, 0)
        os.set_blocking(0, True)
    if spec.output is Output.NULL:
        os.dup2(null, 1)
        os.dup2(null, 2)
    elif spec.output is Output.DIRECT:
        _open_output(spec.log, at)
    for number, fd in given:
        at.subject = f"descriptor {number}"
        os.dup2(fd, number)
    at.subject = ""


def _open_output(log: LogSpec, at: _At) -> None:
    """Open what the service writes to itself: a file, or a terminal or pipe that somebody reads.

    Before the user changes: a log directory is root's. What a user may have put there in place of
    a file (a link of either kind) is refused.
    """
    os.umask(0)
    for number, path in ((1, log.path), (2, log.stderr_path)):
        at.subject = path
        if number == 2 and path == log.path:
            os.dup2(1, 2)
            continue
        opened = os.open(path, _APPEND, _FILE_MODE)
        found = os.fstat(opened)
        if stat.S_ISREG(found.st_mode) and found.st_nlink != 1:
            raise OSError(errno.EPERM, "has another name", path)
        os.dup2(opened, number)
        os.set_blocking(number, True)


def _change_user(identity: Identity) -> None:
    """Drop to the user for good, and check that it was done: a half-done change must not run."""
    if os.geteuid() == 0:
        os.setgroups(identity.groups)
    os.setresgid(identity.gid, identity.gid, identity.gid)
    os.setresuid(identity.uid, identity.uid, identity.uid)
    done = (os.getresuid(), os.getresgid())
    if done != ((identity.uid,) * 3, (identity.gid,) * 3):
        raise PermissionError(errno.EPERM, "user not changed")


def _execute(spec: ServiceSpec, environment: Mapping[str, str], at: _At) -> NoReturn:
    """Execute the program; look for it in PATH if it was not there when the file was loaded."""
    name = spec.argv[0]
    at.subject = spec.program or name
    if spec.program is not None or "/" in name:
        os.execve(spec.program or name, spec.argv, environment)
    refused: OSError | None = None
    for directory in environment.get("PATH", DEFAULT_PATH).split(":"):
        if not directory.startswith("/"):
            continue
        try:
            os.execve(f"{directory}/{name}", spec.argv, environment)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except PermissionError as error:
            # A directory that may not be searched says nothing about what is in it.
            if os.access(f"{directory}/{name}", os.F_OK):
                refused = error
    raise refused or FileNotFoundError(errno.ENOENT, name)
