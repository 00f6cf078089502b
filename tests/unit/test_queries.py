"""What clients may look at: edges, health, targets."""

import json
from types import SimpleNamespace

import pytest

from supervisord_pidfd.commands import BY_NAME, INTERFACE, Peer
from supervisord_pidfd.core.exitstatus import Cause, Exited
from supervisord_pidfd.core.lifecycle import End, Phase, ServiceState, Wanted
from supervisord_pidfd.core.naming import expand
from supervisord_pidfd.core.spec import Condition, Dependency, ServiceSpec, Tie
from supervisord_pidfd.queries import Queries, Sources
from supervisord_pidfd.supervisor import Supervisor

UP = ServiceState(phase=Phase.RUNNING, wanted=Wanted.UP)
DOWN = ServiceState()
LOST = ServiceState(
    phase=Phase.BACKOFF, wanted=Wanted.UP, last_exit=End(Cause.EXIT_CODE, Exited(1))
)
WAITS = ServiceState(phase=Phase.WAITING, wanted=Wanted.UP)


class FakeCall:
    """Keep the answers to a call."""

    def __init__(self, method, **parameters):
        self.method = BY_NAME[f"{INTERFACE}.{method}"]
        self.parameters = {param.name: None for param in self.method.params} | parameters
        self.peer = Peer(0, 0, 1, full=True)
        self.answer = None

    def reply(self, parameters):
        self.answer = parameters

    def error(self, name, parameters=None):
        self.answer = (name.rpartition(".")[2], parameters)

    def pull(self, pieces):
        data = b"".join(pieces)
        assert data.endswith(b"\0")
        self.answer = json.loads(data[:-1])["parameters"]


class Fleet:
    """Some services that stand where the test puts them."""

    unready = Supervisor.unready

    def __init__(self, **services):
        self.services = {
            name: SimpleNamespace(name=name, spec=spec, state=state)
            for name, (spec, state) in services.items()
        }
        self.internals = {}
        self.stopping = False
        self.asked = []

    def counts(self):
        return {"running": len(self.services)}

    def shut_down(self, by):
        self.asked.append(by)

    def call(self, method, **parameters):
        records = SimpleNamespace(
            service=lambda service: {"name": service.name},
            supervisor=lambda counts, **_: {"counts": counts},
        )
        sources = Sources(
            self, records, lambda names: expand(names, self.services, {}), lambda: [{"name": "f"}]
        )
        call = FakeCall(method, **parameters)
        handler = call.method.handler
        getattr(Queries(sources), handler)(call)
        return call.answer


def spec(name, *dependencies, **members):
    return ServiceSpec(name, ("/bin/x",), dependencies=dependencies, **members)


@pytest.fixture
def chain():
    """Three in a row, and one that is part of the first."""
    return Fleet(
        db=(spec("db"), UP),
        app=(spec("app", Dependency("db", Tie.REQUIRES)), LOST),
        web=(spec("web", Dependency("app", Tie.WANTS, Condition.STARTED)), UP),
        side=(spec("side", part_of=("db",)), DOWN),
    )


def shown(answer):
    return [(edge["from"], edge["kind"], edge["to"], edge["met"]) for edge in answer["edges"]]


APP_DB = ("app", "requires", "db", True)
WEB_APP = ("web", "wants", "app", False)
SIDE_DB = ("side", "part_of", "db", True)


@pytest.mark.parametrize(
    ("parameters", "edges"),
    [
        ({}, [APP_DB, WEB_APP, SIDE_DB]),
        ({"name": "web"}, [WEB_APP, APP_DB]),
        ({"name": "app"}, [APP_DB]),
        ({"name": "db"}, []),
        ({"name": "db", "reverse": True}, [APP_DB, SIDE_DB, WEB_APP]),
        ({"name": "web", "reverse": True}, []),
    ],
)
def test_edges_are_those_on_the_way(chain, parameters, edges):
    assert shown(chain.call("Dependencies", **parameters)) == edges


def test_a_circle_of_parts_has_an_end():
    fleet = Fleet(a=(spec("a", part_of=("b",)), UP), b=(spec("b", part_of=("a",)), UP))
    for reverse in (False, True):
        assert len(fleet.call("Dependencies", name="a", reverse=reverse)["edges"]) == 2


def test_an_edge_to_what_is_not_there_is_not_met():
    fleet = Fleet(a=(spec("a", Dependency("gone", Tie.REQUIRES), part_of=("gone",)), UP))
    assert [edge["met"] for edge in fleet.call("Dependencies")["edges"]] == [False, False]


@pytest.mark.parametrize("method", ["Dependencies", "Status"])
def test_an_unknown_name_is_an_error_with_a_suggestion(chain, method):
    given = {"name": "wep"} if method == "Dependencies" else {"names": ["wep"]}
    assert chain.call(method, **given) == ("NoSuchService", {"name": "wep", "suggestion": "web"})


def test_too_many_globs_are_refused(chain):
    answer = chain.call("Status", names=["*"] * 17)
    assert answer == ("InvalidParameter", {"parameter": "names"})


def test_status_is_sorted_and_has_the_helpers_only_when_asked(chain):
    chain.internals[":logger"] = SimpleNamespace(name=":logger")
    names = [one["name"] for one in chain.call("Status")["services"]]
    assert names == ["app", "db", "side", "web"]
    every = [one["name"] for one in chain.call("Status", all=True)["services"]]
    assert every == [":logger", "app", "db", "side", "web"]
    assert chain.call("Status", names=["web"])["services"] == [{"name": "web"}]


def test_a_service_that_goes_while_status_is_read_is_left_out(chain):
    names = iter(["db", "app"])

    def removing():
        for name in names:
            chain.services.pop("app", None)
            yield name

    queries = Queries(
        Sources(chain, SimpleNamespace(service=lambda one: one.name), None, None)  # type: ignore[arg-type]
    )
    assert list(queries._records(removing())) == ["db"]  # type: ignore[arg-type]


def test_health_asks_for_what_is_wanted_up_if_nothing_is_critical(chain):
    assert chain.call("Health") == {"ok": False, "reasons": ["app: backoff, code 1"]}


def test_health_asks_for_the_critical_ones_alone():
    fleet = Fleet(
        db=(spec("db", critical=True), UP), app=(spec("app"), LOST), web=(spec("web"), WAITS)
    )
    assert fleet.call("Health", level="ready") == {"ok": True, "reasons": []}
    fleet.services["db"].state = WAITS
    assert fleet.call("Health") == {"ok": False, "reasons": ["db: waiting"]}


def test_health_is_bad_while_shutting_down_but_alive(chain):
    chain.services.clear()
    chain.stopping = True
    assert chain.call("Health") == {"ok": False, "reasons": ["shutting down"]}
    assert chain.call("Health", level="alive") == {"ok": True, "reasons": []}


def test_discovery_lists_services_with_a_port():
    fleet = Fleet(
        web=(spec("web", group="g", metrics_port=9100, metrics_path="/m"), UP), b=(spec("b"), UP)
    )
    labels = {"service": "web", "group": "g", "__metrics_path__": "/m"}
    assert fleet.call("Discovery") == {"groups": [{"targets": [":9100"], "labels": labels}]}


def test_counters_are_the_daemons_families(chain):
    assert chain.call("Counters") == {"families": [{"name": "f"}]}


def test_shutdown_names_who_asked(chain):
    assert chain.call("Shutdown") == {}
    assert chain.asked == ["operator:0"]


@pytest.mark.parametrize("method", ["Freeze", "Thaw"])
def test_nothing_is_frozen_without_a_cgroup(chain, method):
    name, parameters = chain.call(method, names=["web"])
    assert (name, parameters["reason"]) == ("Refused", "no_cgroup")
    assert chain.call(method, names=["nope"])[0] == "NoSuchService"
