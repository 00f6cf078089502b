"""The dashboard with 10,000 services, and what its modules compute, in a real browser."""

import statistics
import time

import pytest

pytest.importorskip("selenium", reason="there is no browser here")

from tests.support.browser import CHROMIUM, DRIVER, Browser, quoted
from tests.support.crowd import Crowd

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no browser here"),
]

MANY = 10_000
ROWS_MAX = 120


@pytest.fixture(scope="module")
def crowd():
    with Crowd(MANY) as it:
        yield it


@pytest.fixture(scope="module")
def browser():
    with Browser() as it:
        yield it


@pytest.fixture
def page(crowd, browser):
    browser.open(crowd.url)
    browser.until("q('.shown').textContent === '10,000 services'", within=30)
    yield browser
    assert browser.complaints() == []
    browser.open("about:blank")


def rows(page):
    return page.run("return document.querySelectorAll('tr[data-name]').length")


def test_only_the_rows_in_view_exist(page):
    assert 10 < rows(page) < ROWS_MAX
    page.run("scrollTo(0, document.documentElement.scrollHeight)")
    page.until("q('tr[data-name=\"svc-09999\"]')")
    assert rows(page) < ROWS_MAX
    page.run("scrollTo(0, 0)")
    page.until("q('tr[data-name=\"svc-00000\"]')")


def test_one_change_among_thousands_is_seen_within_a_second(page, crowd):
    page.until("q('tr[data-name=\"svc-00003\"]')")
    took = []
    for number in range(5):
        at = time.time()
        crowd.change(3, restarts=1000 + number)
        cell = "q('tr[data-name=\"svc-00003\"] .c-restarts').innerText"
        took.append(page.seen(f"{cell} === '1,00{number}'")[1] - at)

    assert statistics.median(took) < 1, took


def test_a_thousand_changes_at_once_leave_the_page_usable(page, crowd):
    for number in range(1000):
        changed = {"phase": "backoff", "ready": False, "pid": None, "started_at": None}
        crowd.change(number, attempt=1, next_start_at="2100-01-01T00:00:00.000Z", **changed)
    page.until("q('.chip[data-phase=backoff] b').textContent === '1,000'")
    page.until("q('h1').textContent === '1,000 of 10,000 services need a look'")
    page.press("/")
    page.press("svc-0099")
    page.until("q('.shown').textContent === '10 of 10,000 services'")
    page.press("ESCAPE", "ESCAPE")
    page.until("q('.shown').textContent === '10,000 services'")
    for number in range(1000):
        crowd.change(number)
    page.until("q('h1').textContent === 'All 10,000 services are well'")


def test_keys_reach_the_end_of_the_list(page):
    page.press("j", "j")
    page.until("q('tr.chosen').dataset.name === 'svc-00001'")
    page.press("/")
    page.press("svc-0999")
    page.until("q('.shown').textContent === '10 of 10,000 services'")
    page.press("ARROW_DOWN", "k", "k")
    page.until("q('tr.chosen')")
    page.press("ESCAPE")


# -- what the modules compute ---------------------------------------------------------------------


def module(browser, crowd, name, expression):
    """Evaluate an expression with the exports of a module as `m`."""
    page = f"{crowd.url}events"
    if browser.run("return location.href") != page:
        browser.open(page)
    told = "then(arguments[0], (error) => arguments[0](String(error)))"
    return browser.wait(f'import("/static/{name}.js").then((m) => {expression}).{told}')


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("m.age(3)", "3s"),
        ("m.age(732)", "12m 12s"),
        ("m.age(3 * 86400 + 4 * 3600)", "3d 04h"),
        ("m.age(3600)", "1h"),
        ("m.rough(732)", "12m"),
        ("m.length(0.0042)", "4ms"),
        ("m.length(4.24)", "4.2s"),
        ("m.bytes(88e6)", "88 MB"),
        ("m.bytes(1.7e6)", "1.7 MB"),
        ("m.bytes(null)", "\N{EN DASH}"),
        ("m.bytes(999.7e6)", "1.0 GB"),
        ("m.percent(0.031)", "3.1%"),
        ("m.percent(1.5)", "150%"),
        ("m.count(1, 'service')", "1 service"),
        ("m.aged('last exit: code 1, 12m ago', 60)", "last exit: code 1, 13m ago"),
        (
            "m.aged('SIGTERM sent 2s ago, SIGKILL in 8s', 3)",
            "SIGTERM sent 5s ago, SIGKILL in 5s",
        ),
        ("m.aged('waiting for READY=1, 3s', 60)", "waiting for READY=1, 1m"),
        ("m.aged('by uid 0, 2d ago', 5)", "by uid 0, 2d ago"),
        ("m.left(0.05)", "in 0.1s"),
        ("m.left(-1)", "now"),
    ],
)
def test_lengths_and_amounts_are_written_as_on_the_command_line(browser, crowd, expression, text):
    assert module(browser, crowd, "format", expression) == text


EDGES = [("web", "db"), ("web", "cache"), ("app", "web"), ("app", "db"), ("cache", "db")]


def graph(pairs):
    return "[" + ",".join(f"{{from: {quoted(a)}, to: {quoted(b)}}}" for a, b in pairs) + "]"


def test_what_is_needed_stands_left_of_what_needs_it(browser, crowd):
    names = sorted({name for pair in EDGES for name in pair})
    text = f"[...m.layout({names}, {graph(EDGES)}).nodes].map(([n, p]) => [n, p.x, p.y])"
    found = {name: (x, y) for name, x, y in module(browser, crowd, "layout", text)}

    assert all(found[needed][0] < found[name][0] for name, needed in EDGES)
    assert len(set(found.values())) == len(found)


def test_a_circle_of_ties_does_not_hang_the_layout(browser, crowd):
    circle = graph([("a", "b"), ("b", "c"), ("c", "a"), ("a", "a")])

    assert module(browser, crowd, "layout", f"m.layout(['a', 'b', 'c'], {circle}).nodes.size") == 3


def test_a_neighbourhood_is_what_is_on_paths_and_no_more(browser, crowd):
    edges = graph([("a", "b"), ("b", "c"), ("x", "c"), ("y", "z")])
    text = f"m.around({edges}, 'b').map((e) => e.from + e.to).sort().join()"

    assert module(browser, crowd, "graph", text) == "ab,bc"
