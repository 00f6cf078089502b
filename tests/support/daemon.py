"""The installed daemon as a process under test: start it, read its events, end it for certain.

The daemon writes its events to standard output as JSON lines. They are read from that pipe, with a
deadline, so a test waits for what happened and never for time to pass.

Whatever the daemon started carries a mark of this run in its environment. That is how what a test
left behind is found again and ended: by a pidfd that was checked against the mark after it was
opened, so a recycled pid is never hit.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from tests.support.varlink import Varlink

MARK = "DAEMON_UNDER_TEST"


class Daemon:
    """Own one daemon process, its standard output, and everything it started.

    `events` has all events so far, `output` the lines of standard output that are not events.
    `pins` is false for a daemon that several tests share: then it opens no descriptor during one
    of them, and a service that clears its environment has to be ended by the test.
    """

    def __init__(self, home: Path, *, pins: bool = True) -> None:
        self.home = home
        self.pins = pins
        self.mark = f"{MARK}={uuid.uuid4().hex}"
        self.events: list[dict[str, Any]] = []
        self.output: list[str] = []
        self._unseen: list[dict[str, Any]] = []
        self._process: subprocess.Popen[bytes] | None = None
        self._pidfd: int | None = None
        self._rest = b""
        self._ended = False
        self._watched: dict[int, int] = {}

    # -- start --------------------------------------------------------------------------------

    def start(
        self,
        config: str | Path | None,
        *args: str,
        env: Mapping[str, str] | None = None,
        prefix: Sequence[str] = (),
        **popen: Any,
    ) -> Self:
        """Start `run -c CONFIG ARGS…`; without a configuration only `run ARGS…`.

        Args:
            config: The text of the file, or the path of one.
            args: More arguments, for example `"--set", "supervisor.reaper=sigchld"`.
            env: Variables beside the few that the daemon gets anyway.
            prefix: A program that executes the rest, for example a seccomp filter.
            popen: Passed to subprocess.Popen.
        """
        if self._process is not None:
            self.close()
        where = [] if config is None else ["-c", str(self.write_config(config))]
        runtime_dir = self.home / "run"
        argv = [*prefix, *self.command("run"), *where]
        argv += ["--set", f'supervisor.runtime_dir="{runtime_dir}"', *args]
        popen.setdefault("stdin", subprocess.DEVNULL)
        popen.setdefault("cwd", self.home)
        with self.stderr_path.open("ab") as stderr:
            self._process = subprocess.Popen(
                argv,
                env={**self.environment(), **(env or {})},
                stdout=subprocess.PIPE,
                stderr=stderr,
                start_new_session=True,
                **popen,
            )
        self._pidfd = _pidfd_open(self._process.pid)
        self._rest, self._ended = b"", False
        return self

    __call__ = start

    def command(self, *args: str) -> list[str]:
        """Give the command line of the installed program."""
        return [sys.executable, "-I", "-m", "supervisord_pidfd", *args]

    def run(
        self, *args: str, timeout: float = 30, **kwargs: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run another verb, or a wrong command line, to its end; both outputs as text."""
        return subprocess.run(
            self.command(*args),
            env=self.environment(),
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            **kwargs,
        )

    def write_config(self, config: str | Path) -> Path:
        """Write the text of a configuration to where `start` reads it; pass a path through."""
        if isinstance(config, Path):
            return config
        path = self.home / "supervisord.toml"
        path.write_text(config)
        path.chmod(0o644)
        return path

    def environment(self) -> dict[str, str]:
        """Give the daemon's environment: every directory of the user is below `home`."""
        name, _, value = self.mark.partition("=")
        home = str(self.home)
        return {
            name: value,
            "PATH": os.environ.get("PATH", os.defpath),
            "LANG": "C.UTF-8",
            "HOME": home,
            "XDG_CONFIG_HOME": f"{home}/.config",
            "XDG_RUNTIME_DIR": home,
            "XDG_STATE_HOME": f"{home}/.state",
        }

    # -- look ---------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Give the process; an error if none was started."""
        assert self._process is not None, "the daemon was not started"
        return self._process

    @property
    def pid(self) -> int:
        """Give the daemon's pid."""
        return self.process.pid

    @property
    def socket(self) -> Path:
        """Say where the control socket is, unless the test puts it elsewhere."""
        return self.home / "run" / "control.sock"

    def client(self, within: float = 10.0) -> Varlink:
        """Connect to the control socket of a daemon that is ready."""
        return Varlink(self.socket, within)

    @property
    def stderr_path(self) -> Path:
        """Say where standard error goes."""
        return self.home / "stderr"

    @property
    def stderr(self) -> str:
        """Read what was written to standard error so far."""
        return self.stderr_path.read_text(errors="replace") if self.stderr_path.exists() else ""

    def running(self) -> dict[int, list[str]]:
        """Find everything alive that this daemon started, at any depth, with its command line."""
        found = _marked(self.mark)
        if self._process is not None:
            found.pop(self.pid, None)
        return found

    # -- wait ---------------------------------------------------------------------------------

    def wait_for(
        self,
        event: str | None = None,
        service: str | None = None,
        timeout: float = 10,
        **fields: Any,
    ) -> dict[str, Any]:
        """Take the first event that matches and was not taken before; wait for it if need be.

        Events that do not match stay for later calls, so two services may be awaited in any order.
        """
        wanted = dict(fields)
        if event is not None:
            wanted["event"] = event
        if service is not None:
            wanted["service"] = service
        deadline = time.monotonic() + timeout
        looked_at = 0
        while True:
            for index in range(looked_at, len(self._unseen)):
                if _matches(self._unseen[index], wanted):
                    return self._unseen.pop(index)
            looked_at = len(self._unseen)
            if self._ended:
                raise AssertionError(self._story(f"ended without {wanted}"))
            if not self._read(deadline):
                raise AssertionError(self._story(f"no {wanted} within {timeout} s"))

    def look(self, *names: str, timeout: float = 10) -> dict[str, dict[str, Any]]:
        """Ask how each service is; `names` are all that there are.

        What the daemon told before its answer has been read then, so that a test may go on to say
        what did *not* happen.
        """
        self.signal(signal.SIGUSR1)
        return {name: self.wait_for("service.dumped", name, timeout) for name in names}

    def told(self, event: str, service: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        """List the events so far that match, taken or not."""
        wanted = {"event": event, **fields} | ({} if service is None else {"service": service})
        return [one for one in self.events if _matches(one, wanted)]

    def reload(self, config: str | None = None, timeout: float = 15) -> dict[str, Any]:
        """Write another file, tell the daemon with SIGHUP, and wait for what came of it."""
        if config is not None:
            self.write_config(config)
        self.signal(signal.SIGHUP)
        deadline = time.monotonic() + timeout
        while True:
            for index, event in enumerate(self._unseen):
                if event["event"] in {"config.applied", "config.rejected"} and (
                    event.get("by") != "start"
                ):
                    return self._unseen.pop(index)
            if self._ended or not self._read(deadline):
                raise AssertionError(self._story("did not answer a SIGHUP"))

    def wait(self, timeout: float = 30) -> int:
        """Wait for the daemon's end, reading its events meanwhile, and return its exit code."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            if time.monotonic() >= deadline:
                raise AssertionError(self._story(f"not ended within {timeout} s"))
            self._read(deadline, or_end=True)
        # The logger may still be writing; a service that lives on may hold the pipe for ever.
        last = time.monotonic() + 2
        while not self._ended and self._read(last):
            pass
        return self.process.returncode

    # -- end ----------------------------------------------------------------------------------

    def signal(self, signum: int) -> None:
        """Send a signal to the daemon."""
        self.process.send_signal(signum)

    def stop(self, timeout: float = 30) -> int:
        """End it as an operator would, and return its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """Kill the daemon itself, as the kernel would when out of memory; services live on."""
        if self.process.poll() is None:
            self.signal(signal.SIGKILL)
        self.process.wait()

    def close(self) -> None:
        """End the daemon and all that it started, and release every descriptor."""
        if self._process is None:
            return
        self.kill()
        for pid, pidfd in self._watched.items():
            if _is_marked(pid, self.mark):
                _end(pidfd)
            os.close(pidfd)
        self._watched.clear()
        # What escaped the events: helpers, and what services started themselves.
        self.sweep()
        assert self._process.stdout is not None
        self._process.stdout.close()
        if self._pidfd is not None:
            os.close(self._pidfd)
        self._process = self._pidfd = None

    def sweep(self) -> None:
        """End everything that carries the mark."""
        while found := _marked(self.mark):
            for pid in found:
                _end_marked(pid, self.mark)

    # -- inner --------------------------------------------------------------------------------

    def _read(self, deadline: float, *, or_end: bool = False) -> bool:
        """Read what is there; wait until the deadline for something to be. False if it passed.

        With `or_end`, the end of the daemon ends the wait as well.
        """
        assert self.process.stdout is not None
        poll = select.poll()
        stdout = self.process.stdout.fileno()
        if not self._ended:
            poll.register(stdout, select.POLLIN)
        left = max(0.0, deadline - time.monotonic())
        if or_end and self._pidfd is not None:
            poll.register(self._pidfd, select.POLLIN)
        elif or_end:  # without pidfds the end can only be asked for
            left = min(left, 0.05)
        ready = dict(poll.poll(left * 1000))
        if stdout in ready:
            self._take(os.read(stdout, 1 << 16))
        return bool(ready)

    def _take(self, data: bytes) -> None:
        if not data:
            self._ended = True
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._take_line(line.decode(errors="replace"))

    def _take_line(self, line: str) -> None:
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        # A mark among the lines of a service, such as log.dropped, is no event: it has no number.
        if not isinstance(event, dict) or not {"event", "seq"} <= event.keys():
            self.output.append(line)
            return
        self.events.append(event)
        self._unseen.append(event)
        pid = event.get("pid")
        if self.pins and event["event"] == "service.spawned" and isinstance(pid, int):
            pidfd = _pidfd_open(pid)
            if pidfd is not None:
                old = self._watched.pop(pid, None)
                if old is not None:
                    os.close(old)
                self._watched[pid] = pidfd

    def _story(self, what: str) -> str:
        events = "\n".join(json.dumps(event) for event in self.events[-40:])
        output = "\n".join(self.output[-20:])
        return (
            f"daemon {what}\n-- events\n{events}\n-- other output\n{output}"
            f"\n-- stderr\n{self.stderr[-4000:]}"
        )


def _matches(event: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(key in event and event[key] == value for key, value in wanted.items())


def _pidfd_open(pid: int) -> int | None:
    """Open a pidfd; None where that is forbidden, or the process is gone."""
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _is_marked(pid: int, mark: str) -> bool:
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # it is gone, or somebody else's
        return False
    return mark.encode() in environ.split(b"\0")


def _marked(mark: str) -> dict[int, list[str]]:
    """Find the live processes that carry the mark; a zombie has no environment any more."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and _is_marked(int(name), mark):
            with contextlib.suppress(OSError):  # it has just ended
                found[int(name)] = Path(f"/proc/{name}/cmdline").read_text().split("\0")[:-1]
    return found


def _end_marked(pid: int, mark: str) -> None:
    pidfd = _pidfd_open(pid)
    if not _is_marked(pid, mark):
        pass
    elif pidfd is not None:  # opened before the mark was seen: it is the one
        _end(pidfd)
    else:  # pidfds are forbidden; the mark was seen a moment ago
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if pidfd is not None:
        os.close(pidfd)


def _end(pidfd: int) -> None:
    """Kill and wait until it is gone; a process that SIGKILL cannot end fails the test."""
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except ProcessLookupError:
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    if not poll.poll(10_000):
        message = "a process outlived SIGKILL by 10 s"
        raise AssertionError(message)
