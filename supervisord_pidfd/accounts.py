"""What can be told of one service: why it is where it is, its last runs, what is written of it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.answers import Answers
from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.commands import Call
from supervisord_pidfd.core.history import History, Run
from supervisord_pidfd.core.showing import toml_of
from supervisord_pidfd.explain import Subject, explain
from supervisord_pidfd.records import exit_record
from supervisord_pidfd.service import Service


class Sources(NamedTuple):
    """Hold where all this is known from.

    `subject` gathers what is known of a service, `record` describes it as `Status` does,
    `catch_up` publishes what was told so far.
    """

    services: Mapping[str, Service]
    history: History
    subject: Callable[[Service], Subject]
    record: Callable[[Service], dict[str, Any]]
    catch_up: Callable[[], object]


class Accounts:
    """Answer Explain, History and Show."""

    def __init__(self, sources: Sources, answers: Answers) -> None:
        self._sources = sources
        self._answers = answers

    def explain(self, call: Call) -> None:
        """Say why a service is in its phase."""
        service = self._answers.one(call)
        if service is None:
            return
        self._sources.catch_up()
        said = explain(self._sources.subject(service))
        facts = [{**fact._asdict(), "at": _stamp(fact.at)} for fact in said.facts]
        call.reply(
            {
                "service": self._sources.record(service),
                "summary": said.summary,
                "facts": facts,
                "last_lines": [],
                "try": list(said.tries),
            }
        )

    def history(self, call: Call) -> None:
        """Give the last runs of a service, the newest first."""
        service = self._answers.one(call)
        if service is None:
            return
        self._sources.catch_up()
        runs = reversed(self._sources.history.runs(service.name))
        last = call.parameters["last"]
        wanted = [run_record(run) for run in runs]
        call.reply({"runs": wanted if last is None else wanted[:last]})

    def show(self, call: Call) -> None:
        """Give the effective configuration of a service, or of all its instances."""
        names = self._answers.named(call, [call.parameters["name"]])
        if names is None:
            return
        origin, hide = bool(call.parameters["origin"]), not call.peer.full
        tables = [
            toml_of(self._sources.services[name].spec, origin=origin, hide_environment=hide)
            for name in names
        ]
        call.reply({"toml": "\n".join(tables)})


def run_record(run: Run) -> dict[str, Any]:
    """Describe a run as plain data."""
    return {
        "run": run.run,
        "pid": run.pid,
        "started_at": _stamp(run.started_at),
        "ready_at": _stamp(run.ready_at),
        "ended_at": _stamp(run.ended_at),
        "lasted_s": run.lasted_s,
        "exit": None if run.end is None else exit_record(run.end),
        "stopped_by": run.stopped_by,
        "next": run.next,
        "delay_s": run.delay_s,
        "max_rss_bytes": run.max_rss_bytes,
        "user_cpu_s": run.user_cpu_s,
        "system_cpu_s": run.system_cpu_s,
        "last_lines": [],
    }


def _stamp(wall: float | None) -> str | None:
    return None if wall is None else rfc3339(wall)
