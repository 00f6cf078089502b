"""What clients ask of services, and what they are answered."""

from types import SimpleNamespace

import pytest

from supervisord_pidfd.accounts import Accounts, run_record
from supervisord_pidfd.accounts import Sources as KnownFrom
from supervisord_pidfd.answers import Answers
from supervisord_pidfd.commands import INTERFACE
from supervisord_pidfd.core.events import (
    DeadlinePassed,
    ProcessExited,
    RestartRequested,
    StartRequested,
    StopRequested,
)
from supervisord_pidfd.core.exitstatus import Cause, Exited, Usage
from supervisord_pidfd.core.history import Run
from supervisord_pidfd.core.lifecycle import End
from supervisord_pidfd.core.naming import NoSuchNameError, TooManyGlobsError
from supervisord_pidfd.core.spec import ReadyKind, ReadySpec
from supervisord_pidfd.explain import Subject
from supervisord_pidfd.operations import Operations, Sources
from tests.support.fleet import Fleet

GONE = ProcessExited(Exited(0), Usage())
SLOW = ReadySpec(ReadyKind.DELAY, 5.0)
NAMES = (
    "only",
    "wait",
    "timeout_s",
    "settle_s",
    "rolling",
    "change",
    "condition",
    "last",
    "origin",
)


class FakeCall:
    """Keep what a handler answered."""

    def __init__(self, parameters, *, more=False, full=True):
        self.parameters = dict.fromkeys(NAMES) | parameters
        self.more = more
        self.peer = SimpleNamespace(full=full, by="operator:0")
        self.answers = []
        self.leave = None

    def reply(self, parameters, *, continues=False):
        self.answers.append((continues, parameters))

    def error(self, name, parameters=None):
        self.answers.append((name, parameters))

    def on_gone(self, callback):
        self.leave = callback


class Bench:
    """A fleet behind the methods."""

    def __init__(self, *names, **members):
        self.it = Fleet(*names, **members)
        self.services = self.it.machines
        self.stopping = False
        answers = Answers(self.services, self.it.changes, self.resolve, self.record)
        self.operations = Operations(Sources(self.it.loop, self, self, answers, self))
        known = KnownFrom(
            self.services,
            SimpleNamespace(runs=lambda _name: self.runs),
            lambda service: Subject(service.spec, service.state, self.it.clock.now(), 5000.0),
            self.record,
            lambda: None,
        )
        self.accounts = Accounts(known, answers)
        self.runs = ()
        self.needs = []
        self.failures = {}
        self.tried = []

    def run(self, candidates, done):
        """Be the trials: what the checks say is set beforehand."""
        self.tried += [service.name for service, _ in candidates]
        done(self.failures)

    def record(self, service):
        return {"name": service.name, "waiting_for": self.needs, "detail": "asleep"} | {
            "ready": True,
            "health": "unhealthy",
        }

    def resolve(self, names):
        for name in names:
            if name not in self.services:
                raise NoSuchNameError(name, "web")
        return tuple(names)

    def names_for_start(self, names, **_):
        return tuple(names)

    def names_for_stop(self, names, **_):
        return dict.fromkeys(names)

    names_for_restart = names_for_stop

    def start(self, names, by):
        for name in names:
            self.it.post(name, StartRequested(by))

    def stop(self, names, by, cause):
        for name in names:
            self.it.post(name, StopRequested(by, cause))

    def restart(self, names, by, cause):
        for name in names:
            self.it.post(name, RestartRequested(by, cause))

    def call(self, method, *, more=False, full=True, **parameters):
        call = FakeCall(parameters, more=more, full=full)
        owner = self.operations if hasattr(self.operations, method) else self.accounts
        getattr(owner, method)(call)
        return call


@pytest.fixture
def bench():
    made = []

    def make(*names, **members):
        made.append(Bench(*names, **members))
        return made[-1]

    yield make
    for one in made:
        one.it.loop.close()
        assert not one.it.errors


def test_a_start_is_answered_when_it_is_over(bench):
    it = bench()
    call = it.call("start", names=["web"], settle_s=0)
    assert call.answers == []
    it.it.up()

    ((continues, said),) = call.answers
    assert (continues, said["change"]) == (False, 1)
    assert said["outcomes"][0]["ok"]
    assert said["outcomes"][0]["phase"] == "running"


def test_a_simple_service_settles_for_a_second_unless_told_otherwise(bench):
    it = bench()
    call = it.call("start", names=["web"])
    it.it.up().advance(0.9)
    assert call.answers == []
    it.it.advance(0.1)

    assert len(call.answers) == 1


def test_who_does_not_wait_gets_the_number_of_the_change(bench):
    call = bench(ready=SLOW).call("start", names=["web"], wait=False)

    assert call.answers == [(False, {"change": 1, "outcomes": []})]


def test_with_more_each_service_is_a_reply_and_the_last_has_all(bench):
    it = bench("a", "b")
    call = it.call("start", names=["a", "b"], settle_s=0, more=True)
    it.it.up("b").up("a")

    assert [continues for continues, _ in call.answers] == [True, True, False]
    assert [[one["service"] for one in said["outcomes"]] for _, said in call.answers] == [
        ["b"],
        ["a"],
        ["b", "a"],
    ]


@pytest.mark.parametrize(("needs", "said"), [([], "asleep"), (["a", "b"], "waiting for a, b")])
def test_a_wait_that_takes_too_long_says_what_is_missing(bench, needs, said):
    it = bench(ready=SLOW)
    it.needs += needs
    call = it.call("start", names=["web"], timeout_s=2)
    it.it.up().advance(2)

    assert call.answers[0][1]["outcomes"][0]["message"] == said


@pytest.mark.parametrize(
    ("up", "condition", "said"),
    [(False, "running", "stopped (asleep)"), (True, "stopped", "running, ready, unhealthy")],
)
def test_a_wait_that_takes_too_long_says_where_a_service_is(bench, up, condition, said):
    it = bench()
    if up:
        it.call("start", names=["web"], wait=False)
        it.it.up()
    call = it.call("wait", names=["web"], condition=condition, timeout_s=1)
    it.it.advance(1)

    assert call.answers[0][1]["outcomes"][0]["message"] == said


def test_a_wait_that_takes_too_long_says_which_change_goes_on(bench):
    it = bench(ready=SLOW)
    call = it.call("start", names=["web"], timeout_s=2)
    it.it.up().advance(2)

    ((name, said),) = call.answers
    assert name == f"{INTERFACE}.WaitTimedOut"
    assert (said["change"], said["outcomes"][0]["ok"]) == (1, False)
    later = it.call("wait", change=1)
    it.it.clock.advance(3)
    it.it.post("web", DeadlinePassed())
    assert later.answers[0][1]["outcomes"][0]["ok"]


def test_a_client_that_left_is_not_answered_and_its_stop_goes_on(bench):
    it = bench()
    it.call("start", names=["web"], wait=False)
    call = it.it.up() and it.call("stop", names=["web"])
    call.leave()
    it.it.post("web", GONE)

    assert call.answers == []
    assert it.services["web"].phase.value == "stopped"


def test_one_unknown_name_is_enough_to_do_nothing(bench):
    it = bench()
    call = it.call("start", names=["web", "wb"])

    assert call.answers == [(f"{INTERFACE}.NoSuchService", {"name": "wb", "suggestion": "web"})]
    assert it.services["web"].phase.value == "stopped"


def test_all_stands_for_every_service(bench):
    said = bench("a", "b").call("stop", names=["all"]).answers[0][1]

    assert [one["service"] for one in said["outcomes"]] == ["a", "b"]


@pytest.mark.parametrize("method", ["start", "restart"])
def test_a_daemon_that_shuts_down_starts_nothing(bench, method):
    it = bench()
    it.stopping = True
    name, said = it.call(method, names=["web"]).answers[0]

    assert (name, said["reason"]) == (f"{INTERFACE}.Refused", "shutting_down")
    assert it.services["web"].phase.value == "stopped"


def test_a_stop_is_taken_also_while_the_daemon_shuts_down(bench):
    it = bench()
    it.stopping = True

    assert it.call("stop", names=["web"]).answers[0][1]["outcomes"][0]["ok"]


def test_a_rolling_restart_waits_for_each(bench):
    it = bench("a", "b")
    it.call("start", names=["a", "b"], wait=False)
    it.it.up("a").up("b")
    call = it.call("restart", names=["a", "b"], rolling=True, settle_s=0)
    assert it.services["b"].phase.value == "running"
    it.it.post("a", GONE).up("a").post("b", GONE).up("b")

    assert [one["ok"] for one in call.answers[0][1]["outcomes"]] == [True, True]


def test_a_restart_is_over_with_a_new_run(bench):
    it = bench()
    it.call("start", names=["web"], wait=False)
    call = it.it.up() and it.call("restart", names=["web"], settle_s=0)
    assert call.answers == []
    it.it.post("web", GONE).up()

    assert call.answers[0][1]["outcomes"][0]["ok"]
    assert it.services["web"].state.run == 2


def test_a_reset_answers_at_once(bench):
    said = bench().call("reset", names=["web"]).answers[0][1]

    assert said["outcomes"][0]["message"] == "reset"


def test_an_unknown_change_is_refused(bench):
    name, said = bench().call("wait", change=9, names=None).answers[0]

    assert (name, said["reason"]) == (f"{INTERFACE}.Refused", "no_such_change")


def test_a_wait_needs_names_or_a_change(bench):
    assert bench().call("wait", names=None).answers[0][1] == {"parameter": "names"}


def test_explain_answers_what_is_known(bench):
    said = bench().call("explain", name="web").answers[0][1]

    assert said["service"]["name"] == "web"
    assert said["summary"] == "web is stopped: it was never started"
    assert said["try"] == ["pidfdctl start web", "pidfdctl history web"]


def test_history_gives_the_newest_first(bench):
    it = bench()
    it.runs = tuple(Run(number, 0, 5000.0) for number in (1, 2, 3))

    said = it.call("history", name="web", last=2).answers[0][1]
    assert [run["run"] for run in said["runs"]] == [3, 2]


def test_a_run_is_written_with_its_end():
    run = Run(4, 1, 5000.0)
    run.end = End(Cause.SPAWN_ERROR, None, False, "exec", "/srv/w", "ENOENT")
    record = run_record(run)

    assert record["started_at"] == "1970-01-01T01:23:20.000Z"
    assert record["exit"]["text"] == "cannot start: exec /srv/w: ENOENT"
    assert record["exit"]["exit_code"] is record["exit"]["signal"] is None


def test_show_hides_the_environment_from_readers(bench):
    it = bench(written='[["environment.A", "\\"hunter2\\"", "w", 1]]')

    assert "hunter2" in it.call("show", name="web").answers[0][1]["toml"]
    assert "hunter2" not in it.call("show", name="web", full=False).answers[0][1]["toml"]


def test_the_checks_of_what_runs_come_before_a_restart(bench):
    it = bench("web", "db")
    it.call("start", names=["web"], wait=False)
    it.it.up("web")
    it.failures = {"web": "code 1"}
    name, said = it.call("restart", names=["web", "db"]).answers[0]

    assert (name, said["reason"]) == (f"{INTERFACE}.Refused", "reload_check_failed")
    assert it.tried == ["web"]
    assert it.services["web"].state.run == 1


def test_a_daemon_that_shuts_down_meanwhile_restarts_nothing(bench):
    it = bench()
    it.run = lambda _candidates, done: setattr(it, "stopping", True) or done({})

    assert it.call("restart", names=["web"]).answers[0][1]["reason"] == "shutting_down"


@pytest.mark.parametrize("method", ["start", "stop", "restart", "reset", "wait"])
def test_too_many_globs_are_no_names(bench, method):
    it = bench()

    def resolve(_names):
        raise TooManyGlobsError

    it.operations._answers._resolve = resolve
    assert it.call(method, names=["*"] * 99).answers[0][1] == {"parameter": "names"}


@pytest.mark.parametrize("method", ["explain", "history"])
def test_a_name_of_several_services_is_none_for_what_tells_of_one(bench, method):
    it = bench("w@0", "w@1")
    it.operations._answers._resolve = lambda _names: ("w@0", "w@1")

    name, said = it.call(method, name="w").answers[0]
    assert (name, said) == (f"{INTERFACE}.NoSuchService", {"name": "w", "suggestion": "w@0"})


@pytest.mark.parametrize("method", ["explain", "history", "show"])
def test_an_unknown_name_has_no_account(bench, method):
    name, said = bench().call(method, name="wb").answers[0]

    assert (name, said["suggestion"]) == (f"{INTERFACE}.NoSuchService", "web")
