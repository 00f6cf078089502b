"""What a user waits for: `pidfdctl status` beside the interpreter that it runs in.

The answer comes ready-made from a thread of the harness, with one record for each service: what
is measured is the client, its start and its table, and not the daemon.
"""

import json
import os
import socket
import statistics
import sys
import threading
import time

from benchmarks import linux
from benchmarks.report import Report, progress, short, spread, verdict
from benchmarks.session import ENV, Place, SubjectFailedError

AIM_MS = 60.0
ROUNDS = 20
_WARM = 2


def _record(index: int) -> dict[str, object]:
    moment = "2026-11-23T13:50:03.000Z"
    return {
        "name": f"service-{index}", "group": f"service-{index}", "type": "simple",
        "description": "", "phase": "running", "wanted": "up", "ready": True, "health": "none",
        "pid": os.getpid(), "run": 1, "since": moment, "started_at": moment, "ready_at": moment,
        "restarts": 0, "restarts_1h": 0, "attempt": 0, "limit": 10, "next_start_at": None,
        "last_exit": None, "checks": [], "totals": None, "waiting_for": [], "status_text": None,
        "critical": False, "adopted": False, "frozen": False, "pending": False, "detail": "",
    }  # fmt: skip


def _answer(count: int) -> bytes:
    config = {
        "file": None, "files": [], "generation": 1, "digest": "0", "last_error": None,
        "applied_at": "2026-11-23T13:50:03.000Z",
    }  # fmt: skip
    supervisor = {
        "version": "0", "pid": os.getpid(), "pid1": False, "phase": "running", "reaper": "pidfd",
        "reaper_reason": None, "features": [], "started_at": "", "config": config, "counts": {},
    }  # fmt: skip
    reply = {"supervisor": supervisor, "services": [_record(index) for index in range(count)]}
    return json.dumps({"parameters": reply}).encode() + b"\0"


def _serve(listener: socket.socket, answer: bytes) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:  # shut down
            return
        with connection:
            connection.recv(1 << 16)
            connection.sendall(answer)


def _took(argv: tuple[str, ...], output: str) -> float:
    """Return the milliseconds from the start of a command to its end."""
    begun = time.monotonic_ns()
    child = linux.spawn(argv, ENV, output)
    linux.readable(child.pidfd, time.monotonic() + 30)
    took = (time.monotonic_ns() - begun) / 1e6
    if linux.reap(child) != 0:
        raise SubjectFailedError(f"{' '.join(argv)} failed: {linux.read(output)[-200:]}")
    return took


def status(place: Place, count: int, report: Report) -> None:
    """Measure `status` from start to end, in turn with an interpreter that does nothing."""
    path, output = (os.path.join(place.directory, name) for name in ("c.sock", "c.out"))
    python = place.options.python
    ours = (os.path.join(os.path.dirname(python), "pidfdctl"), "-s", path, "status")
    argvs = {
        "python -I -c pass": (python, "-I", "-c", "pass"),
        "pidfdctl status": ours,
        "pidfdctl status --json": (*ours, "--json"),
    }
    if not os.path.exists(ours[0]):
        report.say(f"pidfdctl: left out: it is not beside {python}")
        return
    took: dict[str, list[float]] = {name: [] for name in argvs}
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=_serve, args=(listener, _answer(count)))
        thread.start()
        try:
            for turn in range(_WARM + ROUNDS):
                progress(f"pidfdctl status, round {turn}")
                for name, argv in argvs.items():
                    moment = _took(argv, output)
                    took[name] += [moment] if turn >= _WARM else []
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
    progress("")
    _show(took, count, report)


def _show(took: dict[str, list[float]], count: int, report: Report) -> None:
    floor = took["python -I -c pass"]
    rows = []
    for name, times in took.items():
        ratio = statistics.median(a / b for a, b in zip(times, floor, strict=True))
        word = f"{verdict(statistics.median(times), AIM_MS)} ms"
        rows.append([name, spread(times), short(ratio), "" if times is floor else word])
        report.record(
            "client", command=name, n=count, ms=times, ratio=round(ratio, 2),
            python=sys.version.split()[0],
        )  # fmt: skip
    header = ("", "ms", "ratio", "aim")
    report.table(f"the control client, N = {count}, {ROUNDS} rounds", header, rows)
