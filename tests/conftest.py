"""Fixtures and rules that all tests share; tests/README.md tells them in words."""

import gc
import os
import re
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests.support.daemon import Daemon

TESTS = Path(__file__).parent
WITHOUT_PIDFD = bool(os.environ.get("WITHOUT_PIDFD"))
"""The pidfd calls are forbidden by a filter, and we know it: `make fallback` says so."""

# How long an example takes says how busy the machine is, and no more.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# -- which tests run ------------------------------------------------------------------------------


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs again without pidfds; skip what needs root."""
    for item in items:
        folder = _folder(item.path)
        if folder in {"contract", "system"} or "reaper_mode" in getattr(item, "fixturenames", ()):
            item.add_marker("reaping")
        if item.get_closest_marker("root") and os.geteuid() != 0:
            item.add_marker(pytest.mark.skip(reason="needs root"))


@pytest.fixture(params=["sigchld"] if WITHOUT_PIDFD else ["pidfd", "sigchld"])
def reaper_mode(request: pytest.FixtureRequest) -> str:
    """Run the test once for each way of learning that a child ended."""
    mode: str = request.param
    if mode == "pidfd":
        try:
            os.close(os.pidfd_open(os.getpid()))
        except OSError as error:
            pytest.skip(f"pidfd_open does not work here: {error.strerror}")
    return mode


# -- what each folder promises --------------------------------------------------------------------


def _folder(path: Path) -> str:
    parts = path.parts[len(TESTS.parts) :]
    return parts[0] if len(parts) > 1 else ""


@pytest.fixture(autouse=True)
def _promise(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hold the test to what its folder promises: no effects, or nothing left behind."""
    match _folder(request.path):
        case "unit":
            yield from _without_effects()
        case "contract" | "integration" | "system":
            yield from _nothing_left()
        case _:
            yield


def _without_effects() -> Iterator[None]:
    def refuse(*_args: object, **_kwargs: object) -> None:
        message = "a unit test makes no process, no socket, and does not sleep"
        raise AssertionError(message)

    # The constructors and not the classes: others subclass them while they are imported.
    seams = [
        (os, "fork"),
        (os, "posix_spawn"),
        (subprocess.Popen, "__init__"),
        (socket.socket, "__init__"),
        (time, "sleep"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in seams:
            patch.setattr(owner, name, refuse)
        yield


def _nothing_left() -> Iterator[None]:
    children, descriptors = _children(), _descriptors()
    yield
    left = _children() - children
    # So that the next test starts clean. A child we have not reaped keeps its pid.
    for pid in left:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    opened = _opened(descriptors)
    if opened:  # an exception or a cycle may still hold an object that closes its descriptor
        gc.collect()
        opened = _opened(descriptors)
    for fd in opened:
        os.close(fd)
    assert not left, f"children left behind: {sorted(left)}"
    assert not opened, f"descriptors left open: {opened}"


def _children() -> set[int]:
    """List our children, ended ones included."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return set()
    tasks = Path("/proc/self/task").iterdir()
    return {int(pid) for task in tasks for pid in (task / "children").read_text().split()}


def _descriptors() -> dict[int, str]:
    """List our descriptors and what each stands for."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the one that listed them
            continue
    return found


def _opened(before: dict[int, str]) -> dict[int, str]:
    return {fd: what for fd, what in _descriptors().items() if before.get(fd) != what}


# -- the daemon -----------------------------------------------------------------------------------


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Give a daemon to be started by the test: `daemon.start(config)`, `daemon.wait_for(…)`."""
    it = Daemon(tmp_path)
    try:
        yield it
    finally:
        it.close()


# -- skips ----------------------------------------------------------------------------------------


def allowed_skips(readme: str) -> set[str]:
    """Read the reasons that tests/README.md lists below its heading `Skips`."""
    section = re.search(r"^## Skips\n(.*?)(?=^## |\Z)", readme, re.MULTILINE | re.DOTALL)
    return set(re.findall(r"^- `(.+?)`", section[1], re.MULTILINE)) if section else set()


def _unlisted(reporter: pytest.TerminalReporter) -> Counter[str]:
    """Count the reasons of this run's skips and expected failures that the list does not have."""
    reasons: Counter[str] = Counter()
    for report in reporter.stats.get("skipped", []):
        reasons[report.longrepr[2].removeprefix("Skipped: ")] += 1
    for report in reporter.stats.get("xfailed", []):
        reasons[report.wasxfail.removeprefix("reason: ")] += 1
    for reason in allowed_skips((TESTS / "README.md").read_text()):
        del reasons[reason]
    return reasons


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run in CI if a test was skipped for a reason that nobody agreed to."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not os.environ.get("CI"):
        return
    if _unlisted(reporter) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name those skips."""
    if not os.environ.get("CI"):
        return
    for reason, count in _unlisted(terminalreporter).items():
        terminalreporter.write_line(
            f"not allowed in CI, because tests/README.md does not list it: {reason!r} ({count})",
            red=True,
        )
