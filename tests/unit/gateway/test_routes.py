"""Which path answers what, and what is asked of the core for it."""

import json
import zlib

import pytest

from supervisord_pidfd.core.metrics import Tally
from supervisord_pidfd.core.spec import MetricsSpec
from supervisord_pidfd.gateway.access import Policy
from supervisord_pidfd.gateway.http import Request
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.router import Router
from supervisord_pidfd.gateway.routes import Site
from tests.unit.gateway.records import drive, plain


class FakeCore:
    """Answer with these counters; count the questions."""

    def __init__(self):
        self.answer = {
            "info": {"version": "0.1.0", "python": "3.11.7", "kernel": "6.18.0"},
            "reaper": {"kind": "pidfd", "reason": None},
            "features": {},
            "phases": {},
            "stopping": False,
            "pid": 0,
            "families": Tally().families(),
        }
        self.questions = 0

    async def counters(self, within=1.0):
        self.within = within
        self.questions += 1
        return self.answer


class FakeClock:
    def __init__(self):
        self.at = 100.0

    def now(self):
        return self.at

    def wall(self):
        return self.at


@pytest.fixture
def core():
    return FakeCore()


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def replica():
    made = Replica(MetricsSpec())
    made.apply({"service": plain("web")})
    return made


@pytest.fixture
def site(core, replica, clock):
    return Site(core, replica, MetricsSpec(resources=False), clock)


def get(site, path, query=None, **headers):
    router = Router(Policy(), site.routes())
    return drive(router.answer(Request(path, query or {}, headers)))


def scrape(site, query=None):
    """Return the text of a scrape."""
    return b"".join(get(site, "/metrics", query).packed.pieces())


def test_an_unknown_path_is_not_found(site, core):
    response = get(site, "/admin")

    assert (response.code, response.handler) == (404, "other")
    assert core.questions == 0


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz"])
def test_every_answer_is_counted_under_its_route(site, path):
    response = get(site, path)

    assert (response.code, response.handler) == (200, path.strip("/"))


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_a_core_that_does_not_answer_is_not_well(site, core, path):
    core.answer = None

    response = get(site, path)

    assert response.code == 503
    assert json.loads(response.body)["ok"] is False


def test_readiness_names_what_is_missing(site, core, replica):
    replica.apply({"service": plain("db", phase="failed", ready=False)})
    core.answer["stopping"] = True

    response = get(site, "/readyz")

    reasons = ["supervisor: shutting down", "db: failed"]
    assert json.loads(response.body) == {"ok": False, "reasons": reasons}


def test_a_scrape_is_one_question(site, core):
    get(site, "/metrics")

    assert core.questions == 1


@pytest.mark.parametrize(
    ("timeout", "within"),
    [
        ("", 1.0),
        ("10.000000", 1.0),
        ("1", 0.7),
        ("0.1", 0.07),
        ("-1", 0.0),
        ("soon", 1.0),
        ("nan", 1.0),
    ],
)
def test_a_scraper_that_gives_up_soon_gets_its_answer_sooner(site, core, timeout, within):
    get(site, "/metrics", **({"x-prometheus-scrape-timeout-seconds": timeout} if timeout else {}))

    assert core.within == pytest.approx(within)


def test_parts_of_later_versions_are_empty_and_unknown_ones_refused(site):
    assert scrape(site, {"collect[]": ["logs"]}) == b""
    assert get(site, "/metrics", {"collect[]": ["daemon", "nonsense"]}).code == 400


def test_resources_can_be_switched_off(site):
    assert b"supervisord_service_cpu_seconds_total" not in scrape(site)


def test_gzip_only_where_it_is_accepted(site):
    packed = get(site, "/metrics", **{"accept-encoding": "br;q=1.0, gzip;q=0.8"})
    plainly = get(site, "/metrics", **{"accept-encoding": "gzip;q=0, br"})

    assert ("Content-Encoding", "gzip") in packed.headers
    assert zlib.decompress(packed.body, 31) == b"".join(plainly.packed.pieces())
    assert plainly.packed.size == len(b"".join(plainly.packed.pieces()))


def test_an_answer_is_good_for_a_moment(site, core, clock):
    first = scrape(site)
    core.answer["stopping"] = True
    assert scrape(site) == first

    clock.at += 0.25

    assert b"supervisord_stopping 1.0" in scrape(site)


def test_a_change_is_seen_at_once(site, replica):
    get(site, "/metrics")
    replica.apply({"service": plain("web", pid=None)})

    assert b'supervisord_service_up{group="",service="web"} 0.0' in scrape(site)


def test_a_core_that_stopped_answering_is_seen_at_once(site, core):
    get(site, "/metrics")
    core.answer = None

    assert b"supervisord_up 0.0" in scrape(site)
