"""Hear what a service says of itself: its notify socket, and its readiness descriptor.

Each run has a notify socket of its own, so the socket says who speaks, a flood harms nobody else,
and a message of an old run has nowhere to go. The sender's credentials are the second factor. A
short-lived sender may be gone when its message is read; with `notify_access = "all"` it is
believed then, if its user is the service's: only that user and root can reach the socket.

SO_PASSPIDFD is not asked for: room for a pidfd would be room for any descriptor of the sender.
Without room the kernel installs nothing and closes what was attached, which is what BARRIER=1
waits for. Only with `fdstore.max` > 0 there is room, for that many.
"""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

from supervisord_pidfd.core.events import (
    AttemptsForgiven,
    BecameReady,
    MainPidChanged,
    ReadinessLost,
    ReloadBegan,
    TimeoutExtended,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.notices import NotifyRefused
from supervisord_pidfd.core.notify import (
    MESSAGE_MAX_BYTES,
    NOTHING,
    MalformedError,
    Message,
    parse,
)
from supervisord_pidfd.core.spec import (
    CheckKind,
    NotifyAccess,
    ReadyKind,
    ServiceSpec,
    ServiceType,
)
from supervisord_pidfd.fdstore import FIRST_FD, FdStore
from supervisord_pidfd.loop import Loop, Priority
from supervisord_pidfd.process import Provision, SpawnError, Stage

if TYPE_CHECKING:
    from supervisord_pidfd.service import Service

DATAGRAMS_A_TURN = 32
DRAIN_MOST = 4096
"""How many datagrams of a run that has ended are read: more than any queue holds."""

TELL_AGAIN_AFTER = 10.0
"""A refusal is told once in so long for each reason; all are counted."""

LOST_AFTER = 0.1
"""How long after its readiness descriptor a process may turn out to have ended as well."""

_CREDENTIALS = struct.Struct("3i")
_PATH_MAX = 107
_PRIME = 0xFFFFFFFB
_FDS_MAX = 253
"""SCM_MAX_FD: the kernel lets nobody attach more to one message."""

_AT_REST = frozenset({Phase.STOPPED, Phase.WAITING, Phase.BACKOFF, Phase.EXITED, Phase.FAILED})
_FOR_GOOD = frozenset({Phase.STOPPED, Phase.EXITED, Phase.FAILED})


class Hearing(Protocol):
    """Take what a service says that concerns its checks."""

    def pinged(self) -> None:
        """Take note of a WATCHDOG=1."""
        ...

    def leaving(self) -> None:
        """Take note that the service ends by itself (STOPPING=1)."""
        ...


class Surroundings(NamedTuple):
    """Hold what every notify socket needs.

    `directory` is where they are bound, None for abstract addresses; `heard` takes the result of
    each message: accepted, ignored or refused; `uid` is the daemon's own.
    """

    loop: Loop
    directory: str | None
    heard: Callable[[str], None]
    uid: int


def make_directory(runtime: str) -> str:
    """Make `notify/` in the runtime directory, and remove what an earlier daemon left in it.

    Raises:
        OSError: It cannot be made.
    """
    path = os.path.join(runtime, "notify")
    with contextlib.suppress(FileExistsError):
        os.mkdir(path, 0o711)
    os.chmod(path, 0o711)  # noqa: S103 - services reach their socket in it, and nothing else
    for name in os.listdir(path):
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(path, name))
    return path


class NotifySocket:
    """Be the companion that hears sd_notify(3). Owns the socket of the run, and the fd store."""

    def __init__(
        self, service: "Service", around: Surroundings, hearing: Hearing | None = None
    ) -> None:
        self.hearing = hearing
        self._service = service
        self._around = around
        self._socket: socket.socket | None = None
        self._path: str | None = None
        self._store = FdStore(around.loop)
        self._told: dict[str, float] = {}

    @staticmethod
    def is_wanted(spec: ServiceSpec) -> bool:
        """Tell whether a service is given a notify socket."""
        return (
            spec.type is ServiceType.NOTIFY
            or spec.fdstore_max > 0
            or any(check.kind is CheckKind.WATCHDOG for check in spec.checks)
        )

    # -- the socket of a run ----------------------------------------------------------------------

    def prepare(self, run: int) -> Provision:
        """Bind a socket for this run."""
        self._end_socket()
        try:
            address = self._bind(run)
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error))
            self._end_socket()
            raise SpawnError(Stage.STDIO, "notify socket", name) from None
        watchdog = tuple(
            ("WATCHDOG_USEC", str(int(check.period * 1e6)))
            for check in self._service.spec.checks
            if check.kind is CheckKind.WATCHDOG
        )
        stored = self._store.provision()
        environment = (("NOTIFY_SOCKET", address), *watchdog, *stored.environment)
        return Provision(environment, stored.descriptors)

    def _bind(self, run: int) -> str:
        ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket = ours
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        path = self._path_of(run)
        if path is None:
            address = f"@supervisord-pidfd/{os.urandom(16).hex()}"
            ours.bind("\0" + address[1:])
        else:
            address = path
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            ours.bind(path)
            self._path = path
            self._give_to_user(path)
        self._around.loop.add(ours.fileno(), Priority.READINESS, self._ready)
        return address

    def _path_of(self, run: int) -> str | None:
        """Return a path that is named after the run, shortened if it must be."""
        directory, name = self._around.directory, self._service.name
        if directory is None:
            return None
        for word in (name, f"{int.from_bytes(name.encode(), 'big') % _PRIME:08x}"):
            path = os.path.join(directory, f"{word}.{run}")
            if len(os.fsencode(path)) <= _PATH_MAX:
                return path
        return None

    def _give_to_user(self, path: str) -> None:
        """Let the service's user alone write to it; nobody else can touch the directory."""
        os.chmod(path, 0o600)
        identity = self._service.spec.identity
        if identity is not None and identity.uid != self._around.uid:
            os.chown(path, identity.uid, -1)

    def _end_socket(self) -> None:
        if self._socket is not None:
            self._around.loop.remove(self._socket.fileno())
            self._around.loop.close_later(self._socket.detach())
            self._socket = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._path)
            self._path = None

    # -- as a companion ---------------------------------------------------------------------------

    def handed_over(self) -> None:
        """Do nothing: the service opens its own end."""

    def catch_up(self) -> None:
        """Read all that the run has said before it ended."""
        for _ in range(DRAIN_MOST):
            if not self._receive():
                break

    def follow(self, before: ServiceState, after: ServiceState) -> None:
        """Let go of the socket when the run is over, and of the store when it is over for good."""
        if after.phase is not before.phase:
            if after.phase in _AT_REST:
                self._end_socket()
            if after.phase in _FOR_GOOD:
                self._store.close()

    def use(self, spec: ServiceSpec) -> None:
        """Keep no more descriptors than the spec allows now."""
        self._store.shrink(self._room(spec))

    def close(self) -> None:
        """Let go of everything."""
        self._end_socket()
        self._store.close()

    # -- messages ---------------------------------------------------------------------------------

    def _ready(self, _events: int) -> None:
        for _ in range(DATAGRAMS_A_TURN):
            if not self._receive():
                break

    def _receive(self) -> bool:
        """Take one datagram; return whether there was one."""
        if self._socket is None:
            return False
        room = socket.CMSG_SPACE(_CREDENTIALS.size)
        most = min(self._service.spec.fdstore_max, _FDS_MAX)
        if most:
            room += socket.CMSG_SPACE(4 * most)
        try:
            data, ancillary, flags, _ = self._socket.recvmsg(
                MESSAGE_MAX_BYTES + 1, room, socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
            )
        except OSError:  # nothing there, or nothing that can be read: never a reason to stop
            return False
        pid, uid, fds = _attached(ancillary)
        try:
            self._judge(data, flags, pid, uid, fds)
        finally:
            for fd in fds:
                os.close(fd)
        return True

    def _judge(self, data: bytes, flags: int, pid: int, uid: int, fds: list[int]) -> None:
        """Refuse a datagram, or act on it; what is kept of `fds` is taken out."""
        try:
            said = parse(data)
        except MalformedError as error:
            self._refuse(str(error), pid)
            return
        if not self._may_speak(pid, uid):
            self._refuse("sender", pid)
        elif flags & socket.MSG_CTRUNC and not said.barrier:
            self._refuse("descriptors", pid)
        elif said is NOTHING:
            self._around.heard("ignored")
        else:
            self._around.heard("accepted")
            self._act(said, pid, fds)

    def _may_speak(self, pid: int, uid: int) -> bool:
        service = self._service
        if pid <= 0:  # of another pid namespace, or without credentials
            return False
        if service.is_main(pid):
            return True
        if service.spec.notify_access is not NotifyAccess.ALL:
            return False
        if os.path.exists(f"/proc/{pid}"):
            return service.owns(pid)
        identity = service.spec.identity
        return uid in {0, self._around.uid if identity is None else identity.uid}

    def _refuse(self, reason: str, pid: int) -> None:
        self._around.heard("refused")
        now = self._around.loop.clock.now()
        if now >= self._told.get(reason, 0.0):
            self._told[reason] = now + TELL_AGAIN_AFTER
            self._service.tell(NotifyRefused(reason, pid if pid > 0 else None))

    def _act(self, said: Message, pid: int, fds: list[int]) -> None:
        """Post what follows from a message; the order within one datagram is ours."""
        service = self._service
        if said.main_pid is not None and said.main_pid != service.main_pid:
            self._change_main(said.main_pid, pid)
        if said.store or said.store_remove:
            self._keep(said, pid, fds)
        if said.extend_timeout is not None:
            service.post(TimeoutExtended(said.extend_timeout))
        if said.restart_reset:
            service.post(AttemptsForgiven())
        self._act_on_watchdog(said)
        self._show(said)
        if service.spec.type is ServiceType.NOTIFY:
            if said.reloading:
                service.post(ReloadBegan())
            if said.ready:
                service.post(BecameReady("notify"))

    def _change_main(self, main_pid: int, sender: int) -> None:
        """Believe a new main process only where it is, or will be, proven to be the service's."""
        if self._service.may_own(main_pid):
            self._service.post(MainPidChanged(main_pid))
        else:
            self._refuse("main_pid", sender)

    def _show(self, said: Message) -> None:
        if said.stopping and self.hearing is not None:
            self.hearing.leaving()
        text = _status_of(said)
        if text is not None and text != self._service.status_text:
            self._service.set_status(text)

    def _act_on_watchdog(self, said: Message) -> None:
        service = self._service
        if said.watchdog_s is not None:
            service.post(WatchdogChanged(said.watchdog_s))
        if said.watchdog == "ping":
            service.post(WatchdogPinged())
            if self.hearing is not None:
                self.hearing.pinged()
        elif said.watchdog == "trigger":
            service.post(WatchdogTriggered())

    def _keep(self, said: Message, pid: int, fds: list[int]) -> None:
        room = self._room(self._service.spec)
        if said.store_remove and said.store_name is not None:
            self._store.remove(said.store_name)
        elif said.store and room:
            given, fds[:] = list(fds), []
            if not self._store.add(given, said.store_name, room, poll=said.store_poll):
                self._refuse("fdstore_full", pid)
        elif said.store:
            self._refuse("fdstore", pid)

    @staticmethod
    def _room(spec: ServiceSpec) -> int:
        """Return how many may be stored: below the number of a readiness descriptor."""
        if spec.ready.kind is ReadyKind.FD:
            return min(spec.fdstore_max, spec.ready.fd - FIRST_FD)
        return spec.fdstore_max


def _attached(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int, list[int]]:
    """Return the sender's pid and uid (0 and -1 if not told), and the descriptors now ours."""
    pid, uid = 0, -1
    fds: list[int] = []
    for level, kind, data in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(data) >= _CREDENTIALS.size:
            pid, uid, _ = _CREDENTIALS.unpack_from(data)
        elif kind == socket.SCM_RIGHTS:
            count = len(data) // 4
            fds += struct.unpack_from(f"{count}i", data)
    return pid, uid & 0xFFFFFFFF, fds


def _status_of(said: Message) -> str | None:
    """Return what a message says of the state: STATUS, with ERRNO and EXIT_STATUS behind it."""
    words = [] if said.status is None else [said.status]
    if said.errno:
        words.append(f"({errno.errorcode.get(said.errno, f'errno {said.errno}')})")
    if said.exit_status is not None:
        words.append(f"(exit status {said.exit_status})")
    return " ".join(words) if words else None


# -- the readiness descriptor ---------------------------------------------------------------------


class ReadinessFd:
    """Be the companion that waits for a newline on a descriptor of the service, as s6 does."""

    def __init__(self, service: "Service", loop: Loop) -> None:
        self._service = service
        self._loop = loop
        self._reads: int | None = None
        self._theirs: int | None = None
        self._lost = loop.deadline(self._is_lost)

    @staticmethod
    def is_wanted(spec: ServiceSpec) -> bool:
        """Tell whether a service says by a descriptor that it is ready."""
        return spec.ready.kind is ReadyKind.FD

    def prepare(self, _run: int) -> Provision:
        """Make a pipe for this run."""
        self.close()
        try:
            self._reads, self._theirs = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(self._reads, False)
            self._loop.add(self._reads, Priority.READINESS, lambda _events: self.catch_up())
        except OSError as error:
            name = errno.errorcode.get(error.errno or 0, str(error))
            self.close()
            raise SpawnError(Stage.STDIO, "readiness descriptor", name) from None
        return Provision((), ((self._service.spec.ready.fd, self._theirs),))

    def handed_over(self) -> None:
        """Close the service's end here, so that its last copy closing is seen."""
        if self._theirs is not None:
            os.close(self._theirs)
            self._theirs = None

    def catch_up(self) -> None:
        """Read what the service has written, one chunk at a time: a newline is what counts."""
        if self._reads is None:
            return
        try:
            said = os.read(self._reads, MESSAGE_MAX_BYTES)
        except OSError:
            return
        if b"\n" in said:
            self._end()
            self._service.post(BecameReady(ReadyKind.FD.value))
        elif not said:
            self._end()
            # Was this the end of the whole process? Its exit is the better news then.
            self._lost.arm(self._loop.clock.now() + LOST_AFTER)

    def _is_lost(self) -> None:
        self._service.post(ReadinessLost())

    def _end(self) -> None:
        if self._reads is not None:
            self._loop.remove(self._reads)
            self._loop.close_later(self._reads)
            self._reads = None

    def follow(self, _before: ServiceState, after: ServiceState) -> None:
        """Stop waiting when the start is over, one way or another."""
        if after.phase is not Phase.STARTING:
            self._lost.disarm()
            self._end()

    def use(self, spec: ServiceSpec) -> None:
        """Do nothing: what concerns the descriptor needs a restart."""

    def close(self) -> None:
        """Let go of everything."""
        self._lost.disarm()
        self._end()
        self.handed_over()
