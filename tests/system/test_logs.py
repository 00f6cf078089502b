"""What services write is in their files, whatever happens to the logger and to the disk."""

import os
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.helpers import kill, python, reaping, sh

CAPTURED = 'log.to = ["file"]\n'
WRITER = """
import sys
number = 0
while True:
    block = "".join("%011d\\n" % n for n in range(number, number + 100))
    sys.stdout.write(block)
    sys.stdout.flush()
    number += 100
"""


LAST_WORDS = """
import os, signal
signal.signal(signal.SIGTERM, lambda *_: os._exit(os.write(1, b"x" * 60000 + b"\\n") - 60001))
os.write(1, b"begun\\n")
while True:
    signal.pause()
"""


@pytest.fixture
def logs(tmp_path):
    """Give the directory of the log files."""
    return tmp_path / "log"


def into(logs):
    return ("--set", f"supervisor.log_dir={logs}")


def until(condition, timeout=20):
    """Wait until a file is as it should be; the daemon tells nobody of what it writes."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        select.select([], [], [], 0.02)


def has(path, text):
    return lambda: path.exists() and text in path.read_bytes()


@pytest.mark.reaping
def test_each_run_writes_on_into_the_same_file(daemon, logs, reaper_mode):
    config = f"[service.it]\n{CAPTURED}{sh('echo run $SUPERVISORD_RUN; exec sleep 1000')}"
    daemon.start(config, *into(logs), *reaping(reaper_mode))
    first = daemon.wait_for("service.ready", service="it")
    until(has(logs / "it.log", b"run 1\n"))
    kill(first["pid"])
    daemon.wait_for("service.ready", service="it", run=2)
    until(has(logs / "it.log", b"run 2\n"))
    assert daemon.stop() == 0

    assert (logs / "it.log").read_bytes() == b"run 1\nrun 2\n"
    assert (logs / "it.log").stat().st_mode & 0o777 == 0o640


@pytest.mark.reaping
def test_what_is_left_in_the_pipes_at_the_end_is_written(daemon, logs, reaper_mode):
    config = f"[service.it]\n{CAPTURED}{python(LAST_WORDS)}"
    daemon.start(config, *into(logs), *reaping(reaper_mode))
    until(has(logs / "it.log", b"begun\n"))
    assert daemon.stop() == 0

    assert (logs / "it.log").read_bytes() == b"begun\n" + b"x" * 60000 + b"\n"


def test_a_line_makes_a_service_ready(daemon, logs):
    ready = f"{CAPTURED}ready.log = '^now [a-z]+$'\n"
    config = (
        f"[service.it]\n{ready}{sh('echo not now; sleep 0.2; echo now ready; exec sleep 1000')}"
    )
    daemon.start(config, *into(logs))

    told = daemon.wait_for("service.ready", service="it")
    assert (told["way"], told["took_s"] >= 0.2) == ("log", True)
    assert daemon.stop() == 0


def test_hooks_write_where_their_service_does(daemon, logs):
    hooks = "hooks.pre_start = ['sh', '-c', 'echo before']\n"
    config = f"[service.it]\n{CAPTURED}log.format = 'json'\n{hooks}{sh('echo it; exec sleep 9')}"
    daemon.start(config, *into(logs))
    until(has(logs / "it.log", b'"msg":"it"'))
    assert daemon.stop() == 0
    before, it = (logs / "it.log").read_text().splitlines()

    assert '"stream":"hook","run":1,"seq":1,"msg":"before"' in before
    assert '"stream":"stdout","run":1,"seq":1,"msg":"it"' in it


def test_services_go_on_when_the_logger_is_killed_again_and_again(daemon, logs):
    kills = 20
    quiet = f"[service.quiet]\n{sh('exec sleep 1000')}"
    config = f"{quiet}[service.it]\n{CAPTURED}log.rotate_size = 0\n{python(WRITER)}"
    daemon.start(config, *into(logs))
    file = logs / "it.log"
    for number in range(1, kills + 1):
        size = file.stat().st_size if file.exists() else 0
        until(lambda size=size: file.exists() and file.stat().st_size > size + 50_000)
        logger = daemon.wait_for("service.spawned", service=":logger", run=number)
        kill(logger["pid"])
    daemon.wait_for("service.ready", service=":logger", run=kills + 1, timeout=30)
    assert daemon.stop() == 0
    lines = file.read_bytes().split(b"\n")
    numbers = [int(line) for line in lines if len(line) == 11 and line.isdigit()]
    read = max(numbers) + 1

    assert numbers == sorted(set(numbers))
    assert 12 * (read - len(numbers)) <= kills * ((64 << 10) + 24)
    assert [told["run"] for told in daemon.told("service.exited", "it")] == [1]
    assert daemon.told("service.exited", "quiet")[0]["run"] == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_full_disk_holds_up_those_who_write_there_and_nobody_else(daemon, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,mode=755", "none", small], check=True)
    try:
        _fill_up(daemon, small)
    finally:
        daemon.kill()
        subprocess.run(["umount", "--lazy", small], check=True)


def _fill_up(daemon, small: Path):
    lines = "i=0; while [ $i -lt 60000 ]; do i=$((i+1)); echo $i; done; echo end; exec sleep 1000"
    config = (
        f"[service.it]\n{CAPTURED}log.overflow = 'drop_newest'\nlog.rotate_size = 0\n{sh(lines)}"
        f"[service.other]\n{sh('exec sleep 1000')}"
    )
    daemon.start(config, *into(small))
    failed = daemon.wait_for("log.write_failed", service="it")
    assert (failed["error"], failed["path"]) == ("ENOSPC", f"{small}/it.log")
    other = daemon.wait_for("service.ready", service="other")
    kill(other["pid"])
    again = daemon.wait_for("service.ready", service="other", run=2)
    assert again["took_s"] < 1
    with daemon.client() as client:
        client.call("Status")
    until(lambda: b"end" in _last(daemon))
    full = (small / "it.log").read_text()
    (small / "it.log").write_bytes(b"")  # as an operator would who needs room
    resumed = daemon.wait_for("log.resumed", service="it", timeout=20)
    assert resumed["blocked_s"] > 0
    dropped = daemon.wait_for("log.dropped", service="it")
    assert dropped["reason"] == "write_error"
    assert dropped["lines"] > 0
    sent = "".join(f"{n}\n" for n in range(1, 60001)) + "end\n"
    mark = f"-- {dropped['lines']} lines ({dropped['bytes']} bytes) dropped: write_error, "
    until(lambda: mark in (small / "it.log").read_text())
    kept = "".join(
        line
        for line in (full + (small / "it.log").read_text()).splitlines(keepends=True)
        if not line.startswith("--")
    )
    assert len(sent) == len(kept) + dropped["bytes"]
    assert len(sent.splitlines()) == len(kept.splitlines()) + dropped["lines"]


def _last(daemon):
    command = daemon.command("x")[0]
    client = Path(command).with_name("pidfdctl")
    words = [client, "-s", daemon.socket, "logs", "it", "-n", "3", "--raw"]
    return subprocess.run(words, capture_output=True, check=True).stdout


def test_a_file_is_rotated_between_two_lines_and_nothing_is_lost(daemon, logs):
    count = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo $i; done; exec sleep 1000"
    rotate = "log.rotate_size = '16KB'\nlog.rotate_keep = 100\n"
    daemon.start(f"[service.it]\n{CAPTURED}{rotate}{sh(count)}", *into(logs))
    until(has(logs / "it.log", b"\n20000\n"))
    assert daemon.wait_for("log.rotated")["path"] == f"{logs}/it.log"
    assert daemon.stop() == 0
    older = sorted(logs.glob("it.log.*"), key=lambda path: -int(path.suffix[1:]))
    parts = [path.read_bytes() for path in [*older, logs / "it.log"]]

    assert b"".join(parts) == b"".join(b"%d\n" % n for n in range(1, 20001))
    assert len(parts) > 5
    assert all(part.endswith(b"\n") and len(part) <= 16_000 for part in parts)


def test_a_service_writes_to_its_file_itself_while_there_is_no_logger(daemon, logs):
    logs.mkdir()
    config = (
        f'[service.it]\nlog = {{ to = ["direct"], path = "{logs}/own" }}\n'
        f"{sh('echo begun; exec sleep 1000')}"
    )
    daemon.start(config, *into(logs))
    until(has(logs / "own", b"begun\n"))
    first = daemon.wait_for("service.ready", service="it")
    kill(daemon.wait_for("service.spawned", service=":logger")["pid"])
    kill(first["pid"])
    daemon.wait_for("service.ready", service="it", run=2)
    until(has(logs / "own", b"begun\nbegun\n"))
    assert daemon.stop() == 0

    assert not (logs / "it.log").exists()


def test_files_are_reopened_when_somebody_has_renamed_them(daemon, logs):
    tick = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    daemon.start(f"[service.it]\n{CAPTURED}{sh(tick)}", *into(logs))
    until(has(logs / "it.log", b"1\n"))
    (logs / "it.log").rename(logs / "old")
    daemon.signal(signal.SIGUSR2)
    assert daemon.wait_for("log.reopened")["files"] == 1
    until(has(logs / "it.log", b"\n"))
    assert daemon.stop() == 0
    lines = (logs / "old").read_bytes() + (logs / "it.log").read_bytes()

    assert lines.split() == [b"%d" % n for n in range(1, len(lines.split()) + 1)]
