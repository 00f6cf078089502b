"""How fast a service may write: our logger beside a C loop, its kin and Supervisor.

One service writes lines of 100 bytes as fast as they are taken, once a line in each write, once
64 KiB. What is timed is the writer: what it wrote has been read but for the last 64 KiB. Files are
rotated at 16 MB and all kept, so that what is in them can be compared with what was written.
"""

import os
import random
import resource
import statistics
from collections.abc import Sequence
from typing import NamedTuple

from benchmarks import linux
from benchmarks.build import Pipes
from benchmarks.loggers import BESIDE, LINE_BYTES, RAW, TEXT, Contender, Job
from benchmarks.report import Report, progress, short, spread
from benchmarks.session import Place, SubjectFailedError

RAW_AIM = 0.9
WRITES = {"64 KiB": 65536, "a line": LINE_BYTES}
FORMS = {"raw": RAW, "text": TEXT}
FLOOR, STAMPED_FLOOR = "C loop", "multilog t"


class Result(NamedTuple):
    """Hold what came of one run."""

    rate: float  # MB/s
    cpu: float  # s for each GB
    lost: int  # lines


Found = dict[tuple[str, str], dict[str, list[Result]]]
"""Results by form and size of the writes, then by subject."""


def _count(directory: str) -> int:
    """Count the lines in all files of a log."""
    lines = 0
    for name in set(os.listdir(directory)) - BESIDE:
        with open(os.path.join(directory, name), "rb") as file:
            while data := file.read(1 << 20):
                lines += data.count(b"\n")
    return lines


def remove(directory: str) -> None:
    """Remove a directory with all that is in it."""
    for above, _, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(os.path.join(above, name))
        os.rmdir(above)


def once(one: Contender, place: Place, pipes: Pipes, size: int, total: int) -> Result:
    """Let one subject take `total` bytes."""
    directory = os.path.join(place.directory, "logs")
    os.mkdir(directory)
    try:
        report, go = (os.path.join(directory, name) for name in ("report", "go"))
        os.mkfifo(go)
        writer = (pipes.writer, str(size), str(total), go, report)
        job = Job(directory, writer, place, pipes.copy, go)
        used = one.run(job)
        took, sent, _ = map(int, linux.read(report).split())
        lost = sent // LINE_BYTES - _count(job.files)
        return Result(sent / took * 1e3, used / (sent / 1e9), lost)
    finally:
        remove(directory)


def measure(place: Place, pipes: Pipes, rounds: int, megabytes: int, report: Report) -> None:
    """Measure all that is here, in turns of random order."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    found: Found = {}
    for form, contenders in FORMS.items():
        here = [one for one in contenders if one.is_here(place)]
        for one in contenders:
            if one not in here:
                report.say(f"{one.name}: not available here, left out")
        for writes, size in WRITES.items():
            results = found[form, writes] = {one.name: [] for one in here}
            for turn in range(rounds):
                for one in random.sample(here, len(here)):
                    progress(f"{form}, {writes}, round {turn + 1}: {one.name}")
                    try:
                        result = once(one, place, pipes, size, megabytes * 1_000_000)
                    except SubjectFailedError as error:
                        report.say(f"{one.name}: {error}")
                        continue
                    results[one.name].append(result)
            _record(form, writes, results, report)
    progress("")
    _show(found, rounds, report)


def _record(form: str, writes: str, found: dict[str, list[Result]], report: Report) -> None:
    for name, results in found.items():
        report.record(
            "logs", subject=name, form=form, writes=writes,
            mb_s=[round(one.rate) for one in results],
            cpu_s_gb=[round(one.cpu, 2) for one in results], lost=[one.lost for one in results],
        )  # fmt: skip


def _rate(results: Sequence[Result]) -> float:
    return statistics.median(one.rate for one in results) if results else 0.0


def _cells(results: Sequence[Result], floor: Sequence[Result]) -> list[str]:
    if not results:
        return ["-", "-", "-"]
    ratio = f"{_rate(results) / _rate(floor):.2f}" if floor else "-"
    cpu = statistics.median(one.cpu for one in results)
    return [spread([one.rate for one in results]), ratio, short(cpu)]


def _show(found: Found, rounds: int, report: Report) -> None:
    rows = []
    for form, floor in (("raw", FLOOR), ("text", STAMPED_FLOOR)):
        for name in found[form, "64 KiB"]:
            row, lost = [name], 0
            for writes in WRITES:
                results = found[form, writes]
                row += _cells(results[name], results.get(floor, ()))
                lost += sum(one.lost for one in results[name])
            rows.append([*row, str(lost)])
    columns = ("MB/s, {}", "of it", "CPU s/GB")
    header = ["", *(column.format(writes) for writes in WRITES for column in columns)]
    report.table(
        f"{rounds} rounds; 'of it': of the {FLOOR}, with timestamps of {STAMPED_FLOOR}",
        [*header, "lines lost"],
        rows,
    )
    for line in _verdicts(found):
        report.say(line)


def _verdicts(found: Found) -> list[str]:
    """Compare with the aims."""
    said = []
    raw = found["raw", "64 KiB"]
    ours, kin = raw.pop("ours, raw"), dict(raw)
    floor = kin.pop(FLOOR, [])
    if ours and floor:
        ratio = _rate(ours) / _rate(floor)
        word = "within" if ratio >= RAW_AIM else "BELOW"
        said.append(f"raw, 64 KiB: {ratio:.2f} of the {FLOOR}, {word} {RAW_AIM}")
    if ours and any(kin.values()):
        best = max(kin, key=lambda name: _rate(kin[name]))
        word = "above" if _rate(ours) > _rate(kin[best]) else "BELOW"
        said.append(f"raw, 64 KiB: {word} the best of the others, {best}")
    lines = found["raw", "a line"]
    if any(lines.values()) and lines["ours, raw"]:
        best = max(lines, key=lambda name: _rate(lines[name]))
        most = max(one.rate for one in lines["ours, raw"])
        least = min(one.rate for one in lines[best])
        word = "overlaps" if most >= least else "DOES NOT overlap"
        said.append(f"raw, a line: our range {word} that of the best, {best}")
    for writes in WRITES:
        text = found["text", writes]
        for name in ("multilog t", "svlogd -tt"):
            if text.get(name) and text["ours, text"]:
                ratio = _rate(text["ours, text"]) / _rate(text[name])
                word = "within" if ratio >= 1 else "BELOW"
                said.append(f"text, {writes}: {ratio:.2f} of {name}, {word} 1")
    return said
