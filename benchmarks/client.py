"""What a user waits for: `pidfdctl status` beside the interpreter that it runs in."""

import os
import statistics
import sys
import time

from benchmarks import linux
from benchmarks.report import Report, progress, short, spread, verdict
from benchmarks.session import ENV, Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS

AIM_MS = 60.0
ROUNDS = 20
_WARM = 2
_FLOOR = "python -I -c pass"


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
    python = place.options.python
    program = os.path.join(os.path.dirname(python), "pidfdctl")
    if not os.path.exists(program):
        report.say(f"pidfdctl: left out: it is not beside {python}")
        return
    with Session(SUBJECTS["ours"], place, Wish(count)) as session:
        progress(f"booting ours with {count}")
        session.boot()
        socket = os.path.join(session.directory, "runtime_dir", "control.sock")
        argvs = {
            _FLOOR: (python, "-I", "-c", "pass"),
            "pidfdctl status": (program, "-s", socket, "status"),
            "pidfdctl status --json": (program, "-s", socket, "status", "--json"),
        }
        took: dict[str, list[float]] = {name: [] for name in argvs}
        for turn in range(_WARM + ROUNDS):
            progress(f"pidfdctl status, round {turn}")
            for name, argv in argvs.items():
                moment = _took(argv, os.path.join(session.directory, "status"))
                took[name] += [moment] if turn >= _WARM else []
    progress("")
    _show(took, count, report)


def _show(took: dict[str, list[float]], count: int, report: Report) -> None:
    floor = took[_FLOOR]
    rows = []
    for name, times in took.items():
        ratio = statistics.median(a / b for a, b in zip(times, floor, strict=True))
        word = f"{verdict(statistics.median(times), AIM_MS)} ms" if count <= 200 else ""
        rows.append([name, spread(times), short(ratio), "" if times is floor else word])
        report.record(
            "client", command=name, n=count, ms=times, ratio=round(ratio, 2),
            python=sys.version.split()[0],
        )  # fmt: skip
    header = ("", "ms", "ratio", "aim")
    report.table(f"the control client, N = {count}, {ROUNDS} rounds", header, rows)
