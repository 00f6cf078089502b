"""What services that run are told: a signal, or to read their own configuration again."""

import pytest

from supervisord_pidfd.answers import Answers
from supervisord_pidfd.commands import INTERFACE
from supervisord_pidfd.core.events import ProcessExited, StartRequested
from supervisord_pidfd.core.exitstatus import Exited, Usage
from supervisord_pidfd.core.notices import DaemonReady, ServiceReloaded, ServiceReloadFailed, Told
from supervisord_pidfd.core.spec import ReloadSpec
from supervisord_pidfd.reloads import Reloads
from tests.support.fleet import Fleet
from tests.unit.test_operations import FakeCall

HUP = ReloadSpec(signum=1)


class Bench:
    """A fleet that runs, behind the two methods; the trials end when the test says so."""

    def __init__(self, *names, up=True, **members):
        self.it = Fleet(*names, **members)
        self.services = self.it.machines
        self.stopping = False
        self.trials = []
        self.sent = []
        answers = Answers(self.services, self.it.changes, tuple, dict)
        self.reloads = Reloads(self.it.loop, self, answers, self)
        for name, machine in self.services.items():
            machine.send = lambda signum, by, *, whole_group, name=name: self._send(
                name, signum, by, whole_group
            )
            if up:
                self.it.post(name, StartRequested("config")).up(name)

    def _send(self, *said):
        self.sent.append(said)
        return self.services[said[0]].state.has_process

    def run(self, candidates, done):
        self.trials.append(([service.name for service, _ in candidates], done))

    def call(self, method, *names, **parameters):
        call = FakeCall(dict.fromkeys(("signal", "group")) | {"names": list(names)} | parameters)
        getattr(self.reloads, method)(call)
        return call

    def tried(self, **failures):
        _, done = self.trials.pop()
        done(failures)

    def told(self, notice, service="web"):
        self.it.changes.told(0.0, Told(notice, service))


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


def outcomes(call):
    ((continues, said),) = call.answers
    assert continues is False
    return [(one["service"], one["ok"], one["message"]) for one in said["outcomes"]]


def refusal(call):
    ((name, said),) = call.answers
    assert name == f"{INTERFACE}.Refused"
    return said["reason"], said["message"]


# -- signals --------------------------------------------------------------------------------------


def test_a_signal_goes_to_each_service_and_says_to_whom_it_came(bench):
    it = bench("web", "db")
    it.it.post("db", ProcessExited(Exited(0), Usage()))
    call = it.call("signal", "web", "db", signal="usr1", group=True)

    assert it.sent == [("web", 10, "operator:0", True), ("db", 10, "operator:0", True)]
    assert outcomes(call) == [
        ("web", True, "SIGUSR1 sent"),
        ("db", False, "exited: there is no process"),
    ]


def test_no_such_signal_is_sent_to_nobody(bench):
    it = bench()
    call = it.call("signal", "web", signal="USR9")

    assert call.answers[0][1] == {"parameter": "signal"}
    assert it.sent == []


@pytest.mark.parametrize("method", ["signal", "reload"])
def test_no_name_is_an_error(bench, method):
    assert bench().call(method, signal="HUP").answers[0][1] == {"parameter": "names"}


# -- reload ---------------------------------------------------------------------------------------


def test_a_reload_is_over_when_the_service_says_so(bench):
    it = bench(reload=HUP)
    call = it.call("reload", "web")
    it.tried()
    it.told(DaemonReady(0.1))
    it.told(ServiceReloaded(0.3), "another")
    assert call.answers == []
    it.told(ServiceReloaded(0.3))

    assert outcomes(call) == [("web", True, "reloaded (in 0.3s)")]


def test_a_reload_that_failed_leaves_the_old_process(bench):
    it = bench(reload=HUP)
    call = it.call("reload", "web")
    it.tried()
    it.told(ServiceReloadFailed("code 1"))

    assert outcomes(call) == [("web", False, "cannot reload: code 1; the old process stays")]


def test_a_service_that_ends_meanwhile_has_not_reloaded(bench):
    it = bench(reload=HUP)
    call = it.call("reload", "web")
    it.tried()
    it.it.post("web", ProcessExited(Exited(1), Usage()))

    assert outcomes(call) == [("web", False, "backoff before it had reloaded")]


def test_a_reload_asked_for_during_another_is_over_after_both(bench):
    it = bench(reload=HUP)
    machine = it.services["web"]
    machine.state = machine.state._replace(reloading=True)
    call = it.call("reload", "web")
    it.tried()
    it.told(ServiceReloadFailed("code 1"))
    assert call.answers == []
    it.told(ServiceReloaded(0.5))

    assert outcomes(call) == [("web", True, "reloaded (in 0.5s)")]


def test_a_wait_for_something_else_is_not_ended_by_a_reload(bench):
    it = bench(reload=HUP)
    it.it.stop("web")
    it.told(ServiceReloaded(0.3))

    assert not it.it.changes.find(1).is_over


def test_a_service_without_a_way_to_reload_refuses_the_whole_call(bench):
    it = bench("web", "db", reload=HUP)
    it.services["db"].spec = it.services["db"].spec._replace(reload=ReloadSpec())

    reason, message = refusal(it.call("reload", "web", "db"))
    assert reason == "no_reload_action"
    assert message.startswith("db has no ")
    assert it.trials == []


def test_a_check_that_fails_refuses_the_whole_call(bench):
    it = bench("web", "db", reload=HUP)
    call = it.call("reload", "web", "db")
    it.tried(db="code 1: bad", web="code 2")

    assert refusal(call) == (
        "reload_check_failed",
        "db: reload.check: code 1: bad (and 1 more)",
    )
    assert it.it.changes.find(1) is None


def test_what_is_not_running_is_not_tried_and_not_reloaded(bench):
    it = bench(up=False, reload=HUP)
    call = it.call("reload", "web")
    assert it.trials[0][0] == []
    it.tried()

    assert outcomes(call) == [("web", False, "stopped: not running")]


def test_a_service_that_is_gone_when_the_checks_are_over_is_left_out(bench):
    it = bench("web", "db", reload=HUP)
    call = it.call("reload", "web", "db")
    del it.services["db"]
    it.tried()
    it.told(ServiceReloaded(0.1))

    assert [name for name, *_ in outcomes(call)] == ["web"]


def test_nothing_reloads_while_the_daemon_shuts_down(bench):
    it = bench(reload=HUP)
    late = it.call("reload", "web")
    it.stopping = True
    it.tried()

    assert refusal(late)[0] == refusal(it.call("reload", "web"))[0] == "shutting_down"
