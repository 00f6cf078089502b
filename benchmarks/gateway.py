"""The gateway: what a scrape takes, and what a scrape every second costs those who are restarted.

Ten thousand services are simulated: the harness is the core of a real gateway. A thousand are
real, and so is Prometheus, which is stopped (SIGSTOP) in the quiet blocks.
"""

import contextlib
import http.client
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any, Self

from benchmarks import linux
from benchmarks.report import Report, percentile, progress, short, spread, verdict
from benchmarks.resources import role
from benchmarks.session import ENV, Place, Session, SubjectFailedError, Wish
from benchmarks.subjects import SUBJECTS

SCRAPES = 10
SIMULATED, REAL = 10_000, 1_000
SCRAPE_AIM_S, RSS_AIM_MB, RATIO_AIM = 2.5, 250, 1.25
ROUNDS, KILLS = 12, 100
AS_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
AS_TEXT = {"Accept": "text/plain;version=0.0.4"}
PATIENCE_S = 60


# -- a simulated core -----------------------------------------------------------------------------


def _record(number: int) -> dict[str, Any]:
    """Describe a service that has restarted, and whose process is this one."""
    return {
        "name": f"worker@{number}", "group": "worker", "type": "simple", "restart": "always",
        "critical": False, "phase": "running", "wanted": "up", "ready": True, "health": "none",
        "checks": [], "pid": os.getpid(), "run": 3, "since_ts": 1764000000.25,
        "started_ts": 1764000000.0, "attempt": 0, "internal": False, "max_rss_bytes": None,
        "last_exit": {"cause": "exit_code", "exit_code": 1, "signum": None},
        "totals": {
            "restarts": {"exit_code": 2, "signal": 1}, "exits": {"exit_code": 2, "signal": 1},
            "start_limit_hits": 0, "kill_escalations": 0, "user_cpu_s": 1.5, "system_cpu_s": 0.5,
        },
        "log_slot": number,
    }  # fmt: skip


class Simulation:
    """Own a gateway, of which we are the core."""

    def __init__(
        self, place: Place, count: int, sample_every: float, socket_path: str | None = None
    ) -> None:
        """Start it; with the path of a gateway.sock it has a web listener too."""
        self.channel, theirs = socket.socketpair()
        self.channel.settimeout(PATIENCE_S)
        self._received = b""
        self.answered: Counter[tuple[str, int]] = Counter()
        self._memory = os.memfd_create("counters")
        os.truncate(self._memory, (count + 64) * 128)
        for fd in (theirs.fileno(), self._memory):
            os.set_inheritable(fd, True)
        python = place.options.python
        argv = (python, "-I", "-m", "supervisord_pidfd.gateway", "--fd", str(theirs.fileno()))
        output = os.path.join(place.directory, "gateway")
        self._child = linux.spawn((*argv, "--counters", str(self._memory)), ENV, output)
        theirs.close()
        self._send(1)
        listen = {"listen": ["127.0.0.1:0"], "sample_every": sample_every}
        web: dict[str, Any] = {"user": str(os.geteuid())}
        if socket_path is not None:
            web["listen"] = ["127.0.0.1:0"]
        self._send({"settings": {"metrics": listen, "web": web, "socket": socket_path}})
        for number in range(count):
            self._send({"service": _record(number)})
        self._send({"synced": True})
        self.address = self._receive()["notice"]["address"]
        self.web_address = self._receive()["notice"]["address"] if socket_path is not None else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.channel.close()
        os.close(self._memory)
        if not linux.readable(self._child.pidfd, time.monotonic() + 5):
            linux.kill(self._child.pidfd, signal.SIGKILL)
            linux.readable(self._child.pidfd, time.monotonic() + 5)
        linux.reap(self._child)

    @property
    def pid(self) -> int:
        return self._child.pid

    def _send(self, message: object) -> None:
        self.channel.sendall(json.dumps(message).encode() + b"\0")

    def _receive(self) -> Any:
        while b"\0" not in self._received:
            data = self.channel.recv(65536)
            if not data:
                raise SubjectFailedError("the gateway ended")
            self._received += data
        frame, _, self._received = self._received.partition(b"\0")
        return json.loads(frame)

    def reply(self) -> None:
        """Answer the one question that a scrape asks."""
        call = self._receive()
        for handler, code, number in call["http"]:
            self.answered[handler, code] += number
        counters = {
            "info": {"version": "0", "python": "3", "kernel": "6"},
            "reaper": {"kind": "pidfd", "reason": None}, "features": {}, "phases": {},
            "stopping": False, "pid": os.getppid(), "families": [],
        }  # fmt: skip
        self._send({"reply": call["id"], "counters": counters})

    def answer_for(self, seconds: float) -> None:
        """Answer whatever the gateway asks for a while."""
        deadline = time.monotonic() + seconds
        while b"\0" in self._received or linux.readable(self.channel.fileno(), deadline):
            self.reply()
            if time.monotonic() > deadline:
                return

    def scrape(self, client: http.client.HTTPConnection, headers: dict[str, str]) -> int:
        """Scrape; return the bytes of the answer."""
        client.request("GET", "/metrics", headers=headers)
        self.reply()
        return len(client.getresponse().read())

    def healthz_meanwhile(self, client: http.client.HTTPConnection) -> Iterator[float]:
        """Scrape, and ask for /healthz again and again until that is over; yield seconds."""
        client.request("GET", "/metrics", headers=AS_PROMETHEUS)
        self.reply()
        with contextlib.closing(http.client.HTTPConnection(self.address)) as other:
            while not linux.readable(client.sock.fileno(), 0):
                begun = time.monotonic()
                other.request("GET", "/healthz")
                self.reply()
                other.getresponse().read()
                yield time.monotonic() - begun
                if other.sock is None:
                    other.connect()
        client.getresponse().read()


def simulated(place: Place, count: int, report: Report) -> None:
    """Time scrapes of thousands of services; the worst case reads all of /proc each time."""
    rows: list[list[str]] = []
    for title, sample_every in (("/proc each time", 0.0), ("/proc every 15 s", 15.0)):
        progress(f"gateway: {count} simulated services, {title}")
        with Simulation(place, count, sample_every) as simulation:
            client = http.client.HTTPConnection(simulation.address, timeout=PATIENCE_S)
            with contextlib.closing(client):
                for form, headers in (("OpenMetrics, gzip", AS_PROMETHEUS), ("text", AS_TEXT)):
                    rows.append(_time(simulation, client, f"{form}, {title}", headers, report))
                waits = [1e3 * one for one in simulation.healthz_meanwhile(client)]
            rss = linux.memory(simulation.pid).rss / 1024
    progress("")
    header = ("", "seconds", "CPU s", "MB", "aim")
    report.table(f"a scrape of {count} services, {SCRAPES} times", header, rows)
    report.record("healthz-meanwhile", n=count, ms=[round(one, 2) for one in waits])
    report.say(f"/healthz meanwhile: {spread(waits)} ms, {len(waits)} times")
    report.record("gateway-rss", n=count, mb=round(rss))
    report.say(f"RSS of the gateway: {rss:.0f} MB ({verdict(rss, RSS_AIM_MB)})")


def _time(
    simulation: Simulation,
    client: http.client.HTTPConnection,
    title: str,
    headers: dict[str, str],
    report: Report,
) -> list[str]:
    took, size = [], 0
    simulation.scrape(client, headers)
    spent = linux.usage(simulation.pid).cpu_ms
    for _ in range(SCRAPES):
        linux.rest(0.15)  # answers are good for 100 ms
        begun = time.monotonic()
        size = simulation.scrape(client, headers)
        took.append(time.monotonic() - begun)
    spent = (linux.usage(simulation.pid).cpu_ms - spent) / 1e3 / SCRAPES
    report.record("scrape", which=title, seconds=took, cpu_s=spent, bytes=size)
    aim = verdict(max(took), SCRAPE_AIM_S)
    return [title, spread(took), short(spent), short(size / 1e6), aim]


# -- real services, a real Prometheus -------------------------------------------------------------


def gateway_of(session: Session) -> int:
    """Find the gateway of a session."""
    for pid in session.tree():
        if role(session, pid) == "gateway":
            return pid
    raise SubjectFailedError("there is no gateway")


def real(place: Place, count: int, report: Report) -> None:
    """Compare restarts with and without a scrape every second.

    The core and its services have one processor; gateway, Prometheus and harness the other.
    """
    processors = sorted(os.sched_getaffinity(0))
    prometheus = shutil.which("prometheus")
    if len(processors) < 2 or prometheus is None:
        report.say("scraped restarts: left out: they take two processors and prometheus")
        return
    quiet: list[list[float]] = []
    scraped: list[list[float]] = []
    os.sched_setaffinity(0, processors[:1])
    try:
        with Session(SUBJECTS["ours"], place, Wish(count, metrics=True)) as session:
            progress(f"gateway: booting {count}")
            session.boot()
            os.sched_setaffinity(0, processors[1:])
            os.sched_setaffinity(gateway_of(session), processors[1:])
            session.settle(2)
            _show_scrapes(session, count, report)
            with _scraping(place, prometheus, session.metrics_address) as server:
                for turn in range(ROUNDS):
                    progress(f"gateway, round {turn}")
                    for blocks in random.sample((quiet, scraped), 2):
                        blocks.append(_block(session, server, scraped=blocks is scraped))
            scrapes = _scrapes(session.metrics_address)
    finally:
        os.sched_setaffinity(0, processors)
    progress("")
    _show_restarts(quiet, scraped, scrapes, report)


@contextlib.contextmanager
def _scraping(place: Place, prometheus: str, address: str) -> Iterator[linux.Child]:
    """Run a Prometheus that scrapes this address every second; stopped, to begin with."""
    home = os.path.join(place.directory, "prometheus")
    os.makedirs(home)
    with open(os.path.join(home, "p.yml"), "w", encoding="utf-8") as file:
        file.write(
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\n"
            "scrape_configs: [{job_name: supervisord, "
            f'static_configs: [{{targets: ["{address}"]}}]}}]\n'
        )
    argv = (
        prometheus, f"--config.file={home}/p.yml", f"--storage.tsdb.path={home}/data",
        "--web.listen-address=127.0.0.1:0", "--log.level=warn",
    )  # fmt: skip
    child = linux.spawn(argv, ENV, os.path.join(home, "output"))
    try:
        linux.rest(3)
        linux.kill(child.pidfd, signal.SIGSTOP)
        yield child
    finally:
        linux.kill(child.pidfd, signal.SIGKILL)
        linux.readable(child.pidfd, time.monotonic() + 5)
        linux.reap(child)


def _block(session: Session, server: linux.Child, *, scraped: bool) -> list[float]:
    """Kill one service after the other for a while; return how long each was away, in ms."""
    if scraped:
        linux.kill(server.pidfd, signal.SIGCONT)
        linux.rest(0.5)
    found = []
    for _ in range(KILLS):
        linux.rest(0.02)
        found.append(session.restart(random.randrange(session.wish.services)) * 1e3)
    if scraped:
        linux.kill(server.pidfd, signal.SIGSTOP)
        linux.rest(0.5)
    return found


def _get(address: str, headers: dict[str, str]) -> bytes:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=PATIENCE_S)) as client:
        client.request("GET", "/metrics", headers=headers)
        return client.getresponse().read()


def _scrapes(address: str) -> int:
    """Return how many scrapes the gateway has answered."""
    text = _get(address, AS_TEXT).decode()
    found = re.search(
        r'^supervisord_http_requests_total\{.*"metrics"\} (\S+)$', text, re.MULTILINE
    )
    return int(float(found[1])) if found else 0


def _show_scrapes(session: Session, count: int, report: Report) -> None:
    took = []
    for _ in range(SCRAPES):
        linux.rest(0.15)
        begun = time.monotonic()
        _get(session.metrics_address, AS_PROMETHEUS)
        took.append((time.monotonic() - begun) * 1e3)
    report.record("scrape-real", n=count, ms=took)
    report.say(f"\na scrape of {count} real services: {spread(took)} ms")


def _show_restarts(
    quiet: list[list[float]], scraped: list[list[float]], scrapes: int, report: Report
) -> None:
    rows = []
    for name, blocks in (("quiet", quiet), ("a scrape every second", scraped)):
        times = [one for block in blocks for one in block]
        report.record("scraped-restarts", which=name, ms=[round(one, 3) for one in times])
        middle, high = statistics.median(times), percentile(times, 0.99)
        rows.append([name, short(middle), short(high), short(max(times))])
    report.table(
        f"restarts, {ROUNDS} x {KILLS} each, {scrapes} scrapes; the core has a processor",
        ("", "median ms", "p99 ms", "most ms"),
        rows,
    )
    ratio = _ratio(quiet, scraped)
    without_one = [
        _ratio(quiet[:i] + quiet[i + 1 :], scraped[:i] + scraped[i + 1 :]) for i in range(ROUNDS)
    ]
    report.record("scraped-ratio", p99=ratio, without_one=without_one)
    report.say(
        f"p99 while scraped ÷ quiet: {ratio:.2f}, without one of the rounds"
        f" [{min(without_one):.2f}, {max(without_one):.2f}] ({verdict(ratio, RATIO_AIM)})"
    )


def _ratio(quiet: list[list[float]], scraped: list[list[float]]) -> float:
    """Divide the 99th percentiles of all blocks."""
    high, low = (
        percentile([one for block in blocks for one in block], 0.99) for blocks in (scraped, quiet)
    )
    return high / low


def measure(place: Place, count: int, report: Report) -> None:
    """Measure all of it; `count` is the number of simulated services."""
    simulated(place, count, report)
    real(place, min(REAL, count), report)
