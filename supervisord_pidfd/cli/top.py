"""`top`: what services use, from /proc, every two seconds."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.cli import procfs
from supervisord_pidfd.cli.live import live
from supervisord_pidfd.cli.screen import escape, plural, size
from supervisord_pidfd.cli.session import DONE, Session
from supervisord_pidfd.clock import rfc3339

TITLES = ("SERVICE", "PHASE", "PID", "CPU", "RSS", "FDS", "THREADS", "RESTARTS")
EVERY_S = 2.0
_KEYS = {"c": "cpu", "m": "rss", "f": "fds", "r": "restarts"}


class Row(NamedTuple):
    """Hold one service; `cpu` is a share of one processor. None is unknown."""

    name: str
    phase: str
    pid: int | None
    cpu: float | None
    rss: int | None
    fds: int | None
    threads: int | None
    restarts: int


class Top:
    """Take samples; the share of the processor is that since the sample before."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._sort = session.words.text("sort") or "cpu"
        self._before: dict[tuple[str, int], procfs.Usage] = {}

    def run(self) -> int:
        """Show it until the user ends it, or once."""
        if not self._session.words.has("once"):
            return live(self._session.screen, self.draw, EVERY_S, self._key)
        self._session.screen.lines(self.draw())
        return DONE

    def draw(self) -> list[str]:
        """Take a sample and lay it out; as JSON, print it."""
        screen = self._session.screen
        reply = self._session.call("Status")
        rows = self._sample(reply)
        rows.sort(key=lambda row: row.name)
        rows.sort(key=lambda row: getattr(row, self._sort) or 0, reverse=True)
        if screen.as_json:
            ts = rfc3339(self._session.clock.wall())
            for row in rows:
                screen.object(_object(ts, row))
            return []
        table = screen.table(TITLES, [_cells(row) for row in rows], phase=1)
        return [*table, self._footer(rows)]

    def _sample(self, reply: Mapping[str, Any]) -> list[Row]:
        visible = self._session.client.peer.pid == reply["supervisor"]["pid"]
        boot = procfs.uptime()
        before, self._before = self._before, {}
        return [self._row(one, boot, before, visible=visible) for one in reply["services"]]

    def _row(
        self,
        service: Mapping[str, Any],
        boot: float,
        before: Mapping[tuple[str, int], procfs.Usage],
        *,
        visible: bool,
    ) -> Row:
        name, pid = str(service["name"]), service["pid"]
        use = procfs.usage(pid, boot) if pid and visible else None
        head = (name, str(service["phase"]), pid)
        if use is None:
            return Row(*head, None, None, None, None, service["restarts"])
        self._before[name, pid] = use
        fds = procfs.descriptors(pid)
        cpu = _share(before.get((name, pid)), use)
        return Row(*head, cpu, use.rss_bytes, fds, use.threads, service["restarts"])

    def _footer(self, rows: list[Row]) -> str:
        cpu = sum(row.cpu or 0 for row in rows)
        rss = sum(row.rss or 0 for row in rows)
        text = f"{plural(len(rows), 'service')}: {cpu * 100:.1f}% of one processor, {size(rss)}"
        if self._session.screen.terminal and not self._session.words.has("once"):
            text += f"     by {escape(self._sort)}; keys c m f r sort, q ends"
        return text

    def _key(self, char: str) -> bool:
        self._sort = _KEYS.get(char, self._sort)
        return char in _KEYS


def top(session: Session) -> int:
    """Show what services use."""
    return Top(session).run()


def _share(before: procfs.Usage | None, now: procfs.Usage) -> float | None:
    """Return the share of one processor since the sample before; over its life without one."""
    if before is None or now.lifetime_s - before.lifetime_s < 0.05:
        return now.cpu_share
    return (now.cpu_s - before.cpu_s) / (now.lifetime_s - before.lifetime_s)


def _cells(row: Row) -> list[str]:
    def known(value: int | None) -> str:
        return "-" if value is None else str(value)

    cpu = "-" if row.cpu is None else f"{row.cpu * 100:.1f}%"
    return [
        row.name, row.phase, known(row.pid), cpu, size(row.rss), known(row.fds),
        known(row.threads), str(row.restarts),
    ]  # fmt: skip


def _object(ts: str, row: Row) -> dict[str, Any]:
    return {
        "ts": ts, "service": row.name, "phase": row.phase, "pid": row.pid,
        "cpu": None if row.cpu is None else round(row.cpu, 4), "rss_bytes": row.rss,
        "fds": row.fds, "threads": row.threads, "restarts": row.restarts,
    }  # fmt: skip
