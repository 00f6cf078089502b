"""Plan and apply: what is asked in which order, what refuses, and what is answered."""

from collections import deque
from types import SimpleNamespace

import pytest

from supervisord_pidfd.applying import Outcome
from supervisord_pidfd.commands import INTERFACE
from supervisord_pidfd.configuring import (
    Applied,
    Configuring,
    GoingOver,
    Invalid,
    Planned,
    Refusal,
    Sides,
    Unknown,
    Wish,
)
from supervisord_pidfd.core.events import RestartRequested, StartRequested
from supervisord_pidfd.core.spec import (
    Condition,
    Dependency,
    ServiceSpec,
    SupervisorSpec,
    Tie,
)
from supervisord_pidfd.deployment import Deployment
from tests.support.fleet import Fleet
from tests.unit.test_operations import FakeCall


def spec(name="web", **members):
    return ServiceSpec(name, ("/srv/web",), **members)


def reply(*services, problems=(), supervisor=None, ok=True):
    return SimpleNamespace(
        services=services,
        supervisor=supervisor or SupervisorSpec(),
        problems=problems,
        files=("x.toml",),
        digest="0",
        ok=ok,
    )


class Bench:
    """The queue between fakes: loads and trials wait until the test ends them."""

    def __init__(self, *names):
        self.it = Fleet(*names or ("web",))
        self.services = self.it.machines
        self.spec = SupervisorSpec()
        self.stopping = False
        self.loads = deque()
        self.cancelled = 0
        self.trials = deque()
        self.done = []
        self.refused = []
        self.along = {}
        self.answers = []
        how = GoingOver(
            self,
            self._carry_out,
            lambda outcome, why: self.refused.append((outcome.by, why)),
            dict,
            "x.toml",
        )
        self.configuring = Configuring(
            Sides(self.it.loop, self, self.it.changes, self, how), self.spec
        )

    # -- what the queue sees

    def load(self, by, *, file):
        self.loads.append((by, file))

    def cancel(self):
        self.cancelled += 1

    def run(self, candidates, done):
        self.tried = [service.name for service, _ in candidates]
        if self.tried:
            self.trials.append(done)
        else:
            done({})

    @property
    def sets(self):
        return self

    def names_for_restart(self, names, *, only):
        assert not only
        return {**dict.fromkeys(names), **(self.along if names else {})}

    def planned(self):
        return {name: machine.spec for name, machine in self.services.items()}

    def _carry_out(self, order):
        self.done.append(order)
        for item in order.items:
            if item.action == "restart" and order.restart:
                self.it.post(item.service, RestartRequested("config"))

    # -- what a test does

    def ask(self, by="operator:0", **members):
        wish = Wish(by, self.answers.append, **members)
        self.configuring.ask(wish)
        return wish

    def loaded(self, *services, error=None, other_version=False, **members):
        by, _ = self.loads.popleft()
        found = None if error else reply(*services, **members)
        self.configuring.loaded(Outcome(found, error, by, 0.1, other_version))

    def plan(self, *services, **members):
        self.ask(apply=False)
        self.loaded(*services, **members)
        return self.answers.pop()

    def up(self, *names):
        for name in names or tuple(self.services):
            self.it.post(name, StartRequested("config")).up(name)
        return self

    @property
    def outcomes(self):
        return [(one.service, one.ok, one.message) for one in self.answers[-1].change.outcomes]


@pytest.fixture
def bench():
    made = []

    def make(*names):
        made.append(Bench(*names))
        return made[-1]

    yield make
    for one in made:
        one.it.loop.close()
        assert not one.it.errors


NEW = spec(umask=7)
WARNING = {"severity": "warning", "code": "unreadable"}


# -- plans ----------------------------------------------------------------------------------------


def test_a_plan_names_what_would_be_done_and_the_warnings(bench):
    plan = bench().plan(NEW, spec("b"), problems=(WARNING,))

    assert isinstance(plan, Planned)
    assert [(item.action, item.service) for item in plan.items] == [
        ("add", "b"),
        ("restart", "web"),
    ]
    assert plan.problems == (WARNING,)


def test_a_plan_loads_the_file_it_is_asked_for(bench):
    it = bench()
    it.ask(apply=False, file="/etc/other.toml")

    assert it.loads == deque([("operator:0", "/etc/other.toml")])


def test_a_plan_of_a_broken_file_is_answered_and_not_told(bench):
    it = bench()
    assert it.plan(problems=({"code": "syntax"},), ok=False) == Invalid(({"code": "syntax"},))
    assert it.refused == []


def test_a_load_that_came_to_nothing_is_a_problem_of_the_file(bench):
    it = bench()
    it.ask()
    it.loaded(error="cannot load the configuration within 30s")

    (problem,) = it.answers[0].problems
    assert (problem["file"], problem["message"]) == (
        "x.toml",
        "cannot load the configuration within 30s",
    )
    assert it.refused == [("operator:0", None)]


def test_settings_of_the_daemon_are_an_item_of_the_plan(bench):
    plan = bench().plan(spec(), supervisor=SupervisorSpec(history_size=3, reaper="sigchld"))

    (item,) = plan.items
    assert item.service == ":supervisor"
    (problem,) = plan.problems
    assert (problem["code"], problem["key"]) == ("needs-restart", "supervisor.reaper")


@pytest.mark.parametrize("apply", [True, False])
def test_another_installed_version_refuses_both(bench, apply):
    it = bench()
    it.ask(apply=apply)
    it.loaded(error="differs", other_version=True)

    assert it.answers == [Refusal("version_changed", "differs")]
    assert it.refused == ([("operator:0", "differs")] if apply else [])


# -- the queue ------------------------------------------------------------------------------------


def test_one_wish_is_loaded_at_a_time(bench):
    it = bench()
    it.ask("operator:1")
    it.ask("operator:2", apply=False)
    assert it.loads == deque([("operator:1", None)])
    it.loaded(spec())
    assert it.loads == deque([("operator:2", None)])
    it.loaded(spec())

    assert [type(answer) for answer in it.answers] == [Applied, Planned]


def test_the_next_wish_waits_until_checks_are_over(bench):
    it = bench().up()
    it.ask("operator:1")
    it.loaded(NEW)
    it.ask("operator:2")
    assert (len(it.loads), it.answers) == (0, [])
    it.trials.popleft()({})

    assert it.loads == deque([("operator:2", None)])


def test_signals_that_come_while_one_waits_are_that_one(bench):
    it = bench()
    for _ in range(5):
        it.ask("signal")
    it.loaded(spec())
    it.loaded(spec())

    assert (len(it.loads), len(it.answers)) == (0, 2)


def test_a_plan_that_nobody_waits_for_is_left_out_and_an_apply_is_not(bench):
    it = bench()
    it.ask()
    for wish in (it.ask("operator:1", apply=False), it.ask("operator:2")):
        it.configuring.withdraw(wish)
    it.loaded(spec())

    assert it.loads == deque([("operator:2", None)])


def test_the_end_of_the_daemon_refuses_all_that_is_not_carried_out(bench):
    it = bench().up()
    it.ask()
    it.loaded(NEW)
    it.ask(apply=False)
    it.configuring.close()

    assert [answer.reason for answer in it.answers] == ["shutting_down", "shutting_down"]
    it.trials.popleft()({})
    assert (it.done, it.cancelled) == ([], 1)


def test_a_daemon_that_shuts_down_takes_no_wish(bench):
    it = bench()
    it.stopping = True
    it.ask()

    assert [answer.reason for answer in it.answers] == ["shutting_down"]
    assert not it.loads


def test_a_load_that_nobody_asked_for_any_more_is_nothing(bench):
    it = bench()
    it.ask()
    it.configuring.close()
    it.loaded(NEW)

    assert it.done == []


def test_a_bug_met_by_one_wish_does_not_stop_the_next(bench):
    it = bench()
    it.ask()
    it.ask("operator:2", apply=False)
    it.configuring._sides = it.configuring._sides._replace(
        how=it.configuring._sides.how._replace(carry_out=lambda _order: {}["no such key"])
    )
    with pytest.raises(KeyError):
        it.loaded(spec())

    (problem,) = it.answers[0].problems
    assert problem["message"] == "internal error: KeyError"
    assert it.loads == deque([("operator:2", None)])


# -- applies --------------------------------------------------------------------------------------


def test_an_apply_without_changes_is_over_at_once(bench):
    it = bench()
    it.ask()
    it.loaded(spec())

    assert it.answers[0].change.is_over
    assert it.done[0].items == ()


def test_a_broken_file_is_told_and_changes_nothing(bench):
    it = bench()
    it.ask()
    it.loaded(problems=({"code": "syntax"},), ok=False)

    assert isinstance(it.answers[0], Invalid)
    assert (it.done, it.refused) == ([], [("operator:0", None)])


def test_another_plan_than_the_one_seen_is_refused(bench):
    it = bench()
    digest = it.plan(NEW).digest
    it.ask(expect=digest)
    it.loaded(spec(umask=8))
    it.ask(expect=digest)
    it.loaded(NEW)

    assert it.answers[0].reason == "plan_changed"
    assert isinstance(it.answers[1], Applied)
    assert len(it.done) == 1


def test_what_would_be_restarted_is_tried_out_with_its_new_spec_first(bench):
    it = bench("web", "b", "idle").up("web", "b")
    it.ask()
    it.loaded(NEW, spec("b", description="x"), spec("idle", umask=7))
    assert (it.tried, it.done) == (["web"], [])
    it.trials.popleft()({"web": "code 1"})

    assert it.answers == [Refusal("reload_check_failed", "web: reload.check: code 1")]
    assert it.refused == [("operator:0", "web: reload.check: code 1")]
    assert it.done == []


def test_each_service_of_the_plan_has_its_outcome(bench):
    it = bench("web", "b", "idle", "gone").up("web", "b", "gone")
    it.ask()
    it.loaded(NEW, spec("b", description="x"), spec("idle", umask=7), spec("new", autostart=False))
    it.trials.popleft()({})

    change = it.answers[0].change
    assert it.outcomes == [
        ("b", True, "updated"),
        ("idle", True, "updated; used at the next start"),
        ("new", True, "added"),
    ]
    assert set(change.open) == {"web", "gone"}
    it.services.pop("gone")
    it.it.changes.removed("gone")
    assert it.outcomes[-1] == ("gone", True, "removed")


def test_those_that_go_down_with_a_restarted_one_are_waited_for_too(bench):
    it = bench("web", "front", "idle").up("web", "front")
    it.along = {"front": "web", "idle": "web"}
    it.ask()
    it.loaded(NEW, spec("front"), spec("idle"))
    it.trials.popleft()({})

    assert set(it.answers[0].change.open) == {"web", "front"}


def test_an_added_service_is_waited_for(bench):
    it = bench()
    it.ask()
    it.loaded(spec(), spec("new"))

    assert set(it.answers[0].change.open) == {"new"}


def test_a_restart_may_be_left_pending_and_needs_no_trial(bench):
    it = bench().up()
    it.ask(restart=False)
    it.loaded(NEW)

    assert it.outcomes == [("web", True, "updated; the restart is pending")]
    assert not it.done[0].restart


def test_only_the_named_services_are_gone_over_to(bench):
    it = bench("web", "b")
    it.ask(only=("b",))
    it.loaded(NEW, spec("b", umask=7), supervisor=SupervisorSpec(history_size=3))

    (order,) = it.done
    assert [item.service for item in order.items] == ["b"]
    assert order.services == {"web": spec(), "b": spec("b", umask=7)}
    assert (order.supervisor, order.whole) == (SupervisorSpec(), False)


def test_all_is_every_service_and_no_setting(bench):
    it = bench("web", "b")
    it.ask(only=("all",))
    it.loaded(NEW, supervisor=SupervisorSpec(history_size=3))

    assert [item.service for item in it.done[0].items] == ["b", "web"]


def test_the_digest_is_that_of_the_whole_plan(bench):
    it = bench("web", "b")
    services = (NEW, spec("b", umask=7))
    digest = it.plan(*services).digest
    it.ask(only=("b",), expect=digest)
    it.loaded(*services)

    assert it.answers[0].digest == digest


def test_an_unknown_name_changes_nothing(bench):
    it = bench()
    it.ask(only=("wb",))
    it.loaded(NEW)

    assert it.answers == [Unknown("wb", "web")]
    assert it.done == []


def test_a_part_that_does_not_fit_the_rest_changes_nothing(bench):
    it = bench()
    needs = (Dependency("db", Tie.REQUIRES, Condition.READY),)
    it.ask(only=("web",))
    it.loaded(spec(dependencies=needs, origin="x.toml:4"), spec("db"))

    (problem,) = it.answers[0].problems
    assert (problem["code"], problem["file"], problem["line"]) == ("no-such-service", "x.toml", 4)
    assert it.done == []


# -- over the socket ------------------------------------------------------------------------------


class Socket(Bench):
    """The methods in front of the queue."""

    def __init__(self, *names):
        super().__init__(*names)
        answers = SimpleNamespace(answer=lambda *said: self.answers.append(said))
        self.deployment = Deployment(self.configuring, answers)

    def call(self, method, **parameters):
        names = dict.fromkeys(("file", "only", "no_restart", "expect"))
        call = FakeCall(names | parameters)
        getattr(self.deployment, method)(call)
        return call


@pytest.fixture
def socket():
    made = Socket()
    yield made
    made.it.loop.close()


def test_a_plan_is_answered_as_the_interface_says(socket):
    call = socket.call("plan", file=None)
    socket.loaded(spec(written='[["umask", "7", "w.toml", 3]]', umask=7))

    ((_, said),) = call.answers
    assert said["problems"] == []
    (item,) = said["items"]
    assert (item["action"], item["service"]) == ("restart", "web")
    assert item["changes"] == [
        {"key": "umask", "old": None, "new": "7", "file": "w.toml", "line": 3}
    ]


def test_a_client_that_leaves_takes_its_plan_along(socket):
    socket.call("apply")
    socket.call("plan").leave()
    socket.loaded(spec())

    assert not socket.loads


def test_an_apply_is_answered_with_its_change(socket):
    call = socket.call("apply")
    socket.loaded(NEW)

    ((answered, change, frame),) = socket.answers
    assert answered is call
    assert frame["change"] == change.ident
    assert set(frame) == {"change", "digest", "problems"}


def test_what_an_apply_asks_for_reaches_the_queue(socket):
    socket.call("apply", only=["web"], no_restart=True)
    socket.loaded(NEW)

    (order,) = socket.done
    assert (order.restart, order.whole) == (False, False)


@pytest.mark.parametrize(
    ("parameters", "loaded", "error"),
    [
        ({}, {"ok": False}, "ConfigInvalid"),
        ({"expect": "0"}, {}, "Refused"),
        ({"only": ["wb"]}, {}, "NoSuchService"),
    ],
)
def test_what_is_not_done_is_answered_as_an_error(socket, parameters, loaded, error):
    call = socket.call("apply", **parameters)
    socket.loaded(NEW, **loaded)

    assert call.answers[0][0] == f"{INTERFACE}.{error}"
