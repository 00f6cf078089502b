"""Who is measured: ours, the two floors, the peers; each at its fastest restart.

A subject is one row of `SUBJECTS`: how to find it, how to lay out N services for it, how it is
asked to stop. It is started and ended through handles that session.py holds.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.build import HERE, Programs


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line chose."""

    python: str = sys.executable
    ours_set: tuple[str, ...] = ()  # KEY=VALUE for --set
    instances: bool = False  # one table with instances = N instead of N tables


@dataclass(frozen=True, slots=True)
class Site:
    """What a subject needs to know to lay out its services."""

    directory: str
    socket: str
    count: int
    programs: Programs
    options: Options
    metrics_port: int = 0
    crash: bool = False  # each probe leaves as soon as it has reported
    web_port: int = 0

    def words(self, index: object) -> list[str]:
        """Return the command of one service."""
        ending = ["exit"] if self.crash else []
        return [self.programs.probe, self.socket, str(index), *ending]

    def path(self, *names: str) -> str:
        """Return a path below the directory, whose parent exists."""
        path = os.path.join(self.directory, *names)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def write(self, text: str, *names: str) -> str:
        """Write a file below the directory and return its path."""
        path = self.path(*names)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path


@dataclass(frozen=True, slots=True)
class Subject:
    """One way to keep N services alive."""

    name: str
    find: Callable[[Options], str | None]
    prepare: Callable[[Site, str], list[str]]  # (site, what `find` found) -> argv
    stop: signal.Signals = signal.SIGTERM
    least_life: float = 0.0  # s; a service that lived less is held back, so let it live longer
    slow: bool = False  # a second or more for each restart: fewer of them are measured
    most: int = 100_000  # services it can take
    helpers: bool = False  # a process for each service: slow to count, not to run


def _quote(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def ours_file(site: Site, reaper: str, to: str = "null") -> str:
    """Return the configuration that ours gets: as fast as it may restart, for ever."""
    home = _quote(site.directory)[1:-1]
    lines = [
        "[supervisor]",
        *(f'{key} = "{home}/{key}"' for key in ("runtime_dir", "log_dir", "state_dir")),
        f'reaper = "{reaper}"',
        'log.format = "json"',
    ]
    if site.metrics_port:
        lines += ["[metrics]", f'listen = "127.0.0.1:{site.metrics_port}"']
    if site.web_port:
        lines += ["[web]", f'listen = "127.0.0.1:{site.web_port}"']
    lines += [
        "[defaults]",
        'restart = "always"',
        "backoff.delay = 0",
        "start_limit.burst = 0",
        f'log.to = ["{to}"]',
    ]
    if site.options.instances:
        words = ", ".join(map(_quote, site.words("${service.instance}")))
        lines += ["[service.s]", f"instances = {site.count}", f"command = [{words}]"]
        return "\n".join((*lines, ""))
    for index in range(site.count):
        words = ", ".join(map(_quote, site.words(index)))
        lines += [f"[service.s{index}]", f"command = [{words}]"]
    return "\n".join((*lines, ""))


def _find_ours(options: Options) -> str | None:
    argv = (options.python, "-I", "-c", "import supervisord_pidfd.daemon")
    done = subprocess.run(argv, capture_output=True, check=False, timeout=60)
    return options.python if done.returncode == 0 else None


def _ours(reaper: str, to: str = "null") -> Callable[[Site, str], list[str]]:
    def prepare(site: Site, python: str) -> list[str]:
        path = site.write(ours_file(site, reaper, to), "ours.toml")
        sets = [word for pair in site.options.ours_set for word in ("--set", pair)]
        return [python, "-I", "-m", "supervisord_pidfd", "run", "-c", path, *sets]

    return prepare


def _find_python(options: Options) -> str | None:
    return options.python


def _floor_words(site: Site) -> list[str]:
    probe, socket, _, *ending = site.words(0)
    return [probe, socket, *ending]


def _python_floor(site: Site, python: str) -> list[str]:
    script = os.path.join(HERE, "floor.py")
    return [python, "-I", script, str(site.count), *_floor_words(site)]


def _c_floor(site: Site, _: str) -> list[str]:
    return [site.programs.floor, str(site.count), *_floor_words(site)]


def _which(*names: str) -> Callable[[Options], str | None]:
    def find(_: Options) -> str | None:
        found = [shutil.which(name) for name in names]
        return found[0] if all(found) else None

    return find


def _directories(site: Site, *, notify: bool) -> str:
    """Lay out service directories whose `run` is the probe itself, so that no shell is timed."""
    for index in range(site.count):
        name = f"s{index}"
        words = " ".join(site.words(index)[1:]) + (" 3" if notify else "")
        site.write(words + "\n", "services", name, "probe.args")
        os.symlink(site.programs.probe, site.path("services", name, "run"))
        if notify:
            site.write("3\n", "services", name, "notification-fd")
    place = site.path("services")
    os.utime(place, (0, 0))  # runsvdir waits a second if the directory has just been changed
    return place


def _s6(*, notify: bool) -> Callable[[Site, str], list[str]]:
    def prepare(site: Site, found: str) -> list[str]:
        return [found, "-c", str(site.count + 16), _directories(site, notify=notify)]

    return prepare


def _runit(site: Site, found: str) -> list[str]:
    return [found, "-P", _directories(site, notify=False)]


def _find_supervisor(_: Options) -> str | None:
    beside = os.path.join(os.path.dirname(sys.executable), "supervisord")
    local = os.path.join(HERE, ".venv", "bin", "supervisord")
    for path in (os.environ.get("BENCH_SUPERVISORD"), beside, local, shutil.which("supervisord")):
        if path and os.access(path, os.X_OK):
            return path
    return None


def _supervisor(site: Site, found: str) -> list[str]:
    text = f"""[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
loglevel=critical
pidfile={site.directory}/supervisord.pid
childlogdir={site.directory}
minfds={3 * site.count + 64}

[program:p]
command={" ".join(site.words("%(process_num)d"))}
process_name=%(process_num)d
numprocs={site.count}
autorestart=true
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
"""
    return [found, "-c", site.write(text, "supervisord.conf")]


SUBJECTS = {
    subject.name: subject
    for subject in (
        Subject("ours", _find_ours, _ours("auto")),
        Subject("ours-sigchld", _find_ours, _ours("sigchld")),
        Subject("ours-logged", _find_ours, _ours("auto", "file")),
        Subject("py", _find_python, _python_floor),
        Subject("c", lambda _: "floor", _c_floor),
        # s6 with a readiness descriptor restarts at once; plain s6 waits 1 s after every death.
        Subject(
            "s6",
            _which("s6-svscan", "s6-supervise"),
            _s6(notify=True),
            least_life=1.1,
            helpers=True,
        ),
        Subject(
            "s6-plain",
            _which("s6-svscan", "s6-supervise"),
            _s6(notify=False),
            least_life=1.1,
            slow=True,
            helpers=True,
        ),
        # runsvdir has a fixed table of 1000; on SIGHUP it ends its runsv processes too.
        Subject(
            "runit",
            _which("runsvdir", "runsv"),
            _runit,
            stop=signal.SIGHUP,
            least_life=1.1,
            most=1000,
            helpers=True,
        ),
        # Supervisor acts once a second, whatever startsecs says.
        Subject("supervisor", _find_supervisor, _supervisor, slow=True),
    )
}

DEFAULT = ("ours", "py", "c", "s6", "runit", "supervisor")
