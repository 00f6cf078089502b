"""The dashboard in a real browser, beside a real daemon."""

import os
import signal
import socket
import statistics
import time

import pytest

pytest.importorskip("selenium", reason="there is no browser here")

from tests.support.browser import CHROMIUM, DRIVER, NARROW, WIDE, Browser, quoted
from tests.support.proxy import below
from tests.support.web import TOKENS, roomy_daemon, token_file
from tests.system.helpers import kill, python, sh

pytestmark = [
    pytest.mark.slow,
    pytest.mark.once,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="there is no browser here"),
]

SAYS = """
import sys
print("<b>bold</b> " + "x" * 10, flush=True)
while True:
    with open(sys.argv[1]) as told:
        for line in told:
            out = sys.stderr if line.startswith("!") else sys.stdout
            print(line.rstrip(), file=out, flush=True)
"""
PAGES = ("", "timeline", "graph", "events", "config", "service/talks")
SECRET = "s3cr3t-of-the-tests"


def free_port():
    """Find a port for a gateway that comes back to the same."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def config(home, port):
    return (
        f"web.listen = '127.0.0.1:{port}'\nweb.control = true\n"
        f"web.token_file = '{home / 'tokens'}'\n"
        "[group.storage]\nservices = ['db']\n"
        "[service.db]\ncommand = 'sleep 1000'\nbackoff.delay = 0\n"
        "[service.talks]\nlog.to = ['file']\nrequires = ['db']\n"
        f"environment.PASSWORD = '{SECRET}'\n{python(SAYS, home / 'told')}"
        f"[service.broken]\nrestart = 'no'\n{sh('exit 3')}"
        "[service.idle]\nautostart = false\nwants = ['db']\ncommand = 'sleep 1000'\n"
        "[service.worker]\ninstances = 12\ncommand = 'sleep 1000'\n"
    )


class Site:
    """Hold the daemon, the browser, and how to ask for pages."""

    def __init__(self, daemon, address, browser):
        self.daemon, self.browser = daemon, browser
        self.url = f"http://{address}/"
        self.port = int(address.rpartition(":")[2])

    def look(self, path="", role=None):
        """Open a page afresh, with a token of a role, and wait until it is live."""
        self.browser.open(f"{self.url}static/icon.svg")
        self.browser.forget()
        if role is not None:
            key = "sessionStorage.setItem('supervisord-pidfd.token', arguments[0])"
            self.browser.run(key, TOKENS[role])
        self.browser.open(self.url + path)
        self.browser.until("q('.live').dataset.state === 'live'")
        return self.browser

    def say(self, *lines):
        """Have the service that talks write these lines."""
        with open(self.daemon.home / "told", "w") as told:
            told.writelines(f"{line}\n" for line in lines)

    def pid(self, name):
        with self.daemon.client() as client:
            (found,) = client.call("Status", names=[name])["services"]
        return found["pid"]


@pytest.fixture(scope="module")
def site():
    with roomy_daemon() as daemon, Browser() as browser:
        os.mkfifo(daemon.home / "told")
        (daemon.home / "told").chmod(0o666)
        token_file(daemon.home / "tokens")
        port = free_port()
        daemon.start(
            config(daemon.home, port), "--set", f"supervisor.log_dir={daemon.home / 'log'}"
        )
        address = daemon.wait_for("gateway.listening", serves="web")["address"]
        assert address == f"127.0.0.1:{port}"
        daemon.wait_for("service.ready", service="talks")
        yield Site(daemon, address, browser)


@pytest.fixture(autouse=True)
def _no_complaints(site):
    """Hold every test to this: the console stays empty, and so does the list of broken rules."""
    site.browser.complaints()
    yield
    assert site.browser.complaints() == []


def row(name):
    return f"q('tr[data-name={quoted(name)}]')"


# -- services -------------------------------------------------------------------------------------


def test_all_services_are_listed_with_their_phase_and_what_they_use(site):
    page = site.look(role="read")

    page.until("qq('tr[data-name]').length === 16")
    page.until(f"{row('db')}.innerText.includes('running')")
    page.until(f"{row('broken')}.innerText.includes('failed')")
    page.until(f"/\\d (KB|MB)/.test({row('db')}.querySelector('.c-rss').innerText)")
    page.until(f"/\\d%/.test({row('db')}.querySelector('.c-cpu').innerText)")
    assert page.until("q('h1').textContent") == "broken needs a look"
    assert page.run("return document.querySelector('.about').textContent").startswith("up ")


def test_a_change_is_seen_within_a_second(site):
    page = site.look(role="read")
    page.until(row("db"))
    took = []
    for _ in range(5):
        seen = "[...document.querySelectorAll('tr')].find((r) => r.dataset.name === 'db')"
        before = page.run(f"return {seen}.querySelector('.c-restarts').innerText")
        at = time.time()
        kill(site.pid("db"))
        condition = f"{row('db')}.querySelector('.c-restarts').innerText !== {quoted(before)}"
        took.append(page.seen(condition)[1] - at)

    assert statistics.median(took) < 1, took


def test_the_filter_finds_names_groups_and_phases(site):
    page = site.look(role="read")
    page.until("qq('tr[data-name]').length === 16")
    for text, names in (
        ("worker@1", ["worker@1", "worker@10", "worker@11"]),
        ("@storage", ["db"]),
        ("failed", ["broken"]),
        ("-worker -db", ["broken", "idle", "talks"]),
    ):
        page.run("document.querySelector('#filter').value = ''")
        page.press("/")
        page.press(text)
        page.until(
            f"qq('tr[data-name]').map((r) => r.dataset.name).join() === '{','.join(names)}'"
        )
        page.press("ESCAPE", "ESCAPE")
        page.until("qq('tr[data-name]').length === 16")
    page.click(".chip[data-phase=failed]")
    page.until("qq('tr[data-name]').length === 1")
    assert page.run("return document.querySelector('.shown').textContent") == "1 of 16 services"


def test_columns_sort(site):
    page = site.look(role="read")
    page.until("qq('tr[data-name]').length === 16")
    page.click(".c-phase button")
    page.until("qq('tr[data-name]')[0].dataset.name === 'broken'")
    page.click(".c-name button")
    page.click(".c-name button")
    page.until("qq('tr[data-name]')[0].dataset.name === 'worker@11'")
    assert page.run("return document.querySelector('th.c-name').ariaSort") == "descending"


def test_everything_is_reached_by_keys(site):
    page = site.look(role="read")
    page.until("qq('tr[data-name]').length === 16")
    page.press("j", "j", "k", "j")
    page.until("q('tr.chosen').dataset.name === 'db'")
    page.press("ENTER")
    page.until("location.pathname.endsWith('/service/db')")
    page.until("q('h1').textContent.includes('db')")
    page.press("ESCAPE")
    page.until("qq('tr[data-name]').length === 16")
    for key, path, title in (
        ("t", "timeline", "Starts and exits"),
        ("g", "graph", "Dependencies"),
        ("e", "events", "Events"),
        ("c", "config", "Configuration"),
    ):
        page.press(key)
        page.until(f"q('h1').textContent === '{title}' && location.pathname === '/{path}'")
    page.press("?")
    page.until("q('dialog').innerText.includes('follow the log')")
    page.press("ESCAPE")
    page.until("!q('dialog')")
    page.press("d")
    page.until("document.documentElement.dataset.theme === 'light'")
    page.press("d")
    page.until("document.documentElement.dataset.theme === 'dark'")
    page.run("history.back()")
    page.until("location.pathname === '/events'")


# -- one service ----------------------------------------------------------------------------------


def test_a_service_tells_why_it_is_so_and_what_it_did(site):
    page = site.look("service/broken", role="read")

    page.until("q('.summary').textContent.startsWith('broken')")
    page.until("q('.title .word').textContent === 'failed'")
    page.until("q('.runs tbody').innerText.includes('code 3')")
    page.until("q('.strip .m-bad')")
    assert "code 3" in page.until("q('.why .facts').innerText")


def test_what_a_service_needs_and_what_needs_it_is_drawn(site):
    page = site.look("service/db", role="read")
    page.until("qq('.graph a').length === 3")
    page.click(".graph a:not(.centre)")
    page.until("location.pathname !== '/service/db'")


def test_lines_are_followed_and_read_as_text(site):
    page = site.look("service/talks", role="read")
    page.until("q('.lines').innerText.includes('<b>bold</b>')")
    assert page.run("return document.querySelector('.lines b')") is None
    site.say("first", "!second <img src=x>")
    page.until("q('.line.s-stderr .msg').textContent === '!second <img src=x>'")
    page.until("qq('.line.s-stdout .msg').some((one) => one.textContent === 'first')")
    assert page.run("return document.querySelector('.line.s-stderr .mark').textContent") == "!"

    page.press("p")
    site.say("third", "fourth")
    page.until("q('.log').innerText.includes('Resume (2 lines)')")
    assert "third" not in page.run("return document.querySelector('.lines').innerText")
    page.press("p")
    page.until("q('.lines').innerText.includes('fourth')")
    site.say(*(f"line {number}" for number in range(100)))
    page.until("q('.lines').lastChild.textContent.includes('line 99')")
    page.until("q('.lines').scrollHeight - q('.lines').scrollTop - q('.lines').clientHeight < 8")
    page.run("document.querySelector('.lines').scrollTop = 0")
    page.until("qq('.log button').find((b) => b.textContent === 'Follow').ariaPressed === 'false'")


def test_the_configuration_is_shown_without_values(site):
    page = site.look("service/talks", role="read")
    page.click("details summary")
    text = page.until("q('.toml').innerText.includes('PASSWORD') && q('.toml').innerText")

    assert SECRET not in text
    assert SECRET not in page.run("return document.documentElement.outerHTML")


# -- control --------------------------------------------------------------------------------------


def test_without_a_token_nothing_is_shown_but_the_question_for_one(site):
    site.browser.open(f"{site.url}static/icon.svg")
    site.browser.forget()
    site.browser.open(site.url)
    page = site.browser
    page.until("q('#banner').innerText.includes('asks for a token')")
    assert page.run("return document.querySelectorAll('tr[data-name]').length") == 0
    refusals = page.complaints()
    assert refusals
    assert all("401" in text for text in refusals)

    page.click("#banner button")
    page.press(TOKENS["read"])
    page.press("ENTER")
    page.until("qq('tr[data-name]').length === 16")
    page.until("q('#banner').hidden")
    page.complaints()


def test_who_may_only_read_has_no_buttons(site):
    page = site.look("service/idle", role="read")
    page.until("q('.title .word').textContent === 'stopped'")

    assert page.run("return document.querySelector('.buttons').innerText") == "Control…"


def test_who_may_control_starts_and_stops(site):
    page = site.look("service/idle", role="read")
    page.until("q('.title .word').textContent === 'stopped'")
    page.click(".buttons .lock")
    page.press(TOKENS["control"])
    page.press("ENTER")
    page.until("q('.buttons .start')")
    page.click(".buttons .start")
    page.until("q('.title .word').textContent === 'running'")
    page.until("q('.toast.good')")
    assert site.pid("idle") is not None
    page.until("!q('.buttons .stop').disabled")
    page.click(".buttons .stop")
    page.until("q('.title .word').textContent === 'stopped'")
    assert site.pid("idle") is None
    assert page.run("return document.cookie") == ""


def test_a_change_of_the_configuration_is_planned_and_applied(site):
    page = site.look("config", role="control")
    text = config(site.daemon.home, site.port)
    site.daemon.write_config(text + "[service.late]\ncommand = 'sleep 1000'\n")
    try:
        page.click(".plan button")
        page.until("q('.items').innerText.includes('late')")
        page.click(".plan .primary")
        page.until("q('.facts').innerText.includes('2')")
        page.press("s")
        page.until(row("late"))
    finally:
        site.daemon.reload(text)
    page.until(f"!{row('late')}")


# -- trouble --------------------------------------------------------------------------------------


def test_a_supervisor_that_hangs_is_told_and_old_figures_are_not_shown_as_live(site):
    page = site.look(role="read")
    page.until(row("db"))
    site.daemon.signal(signal.SIGSTOP)
    try:
        page.until("q('#banner').innerText.startsWith('No contact with the supervisor since')")
        assert page.run("return 'stale' in document.body.dataset")
    finally:
        site.daemon.signal(signal.SIGCONT)
    page.until("q('#banner').hidden && q('.live').dataset.state === 'live'")
    page.complaints()  # figures could not be had meanwhile


def test_a_gateway_that_was_killed_is_found_again(site):
    page = site.look(role="read")
    page.until(row("db"))
    with site.daemon.client() as client:
        found = client.call("Status", names=[], all=True)["services"]
    kill(next(one["pid"] for one in found if one["name"] == ":gateway"))
    page.until("q('.live').dataset.state === 'lost' && !q('#banner').hidden")
    page.until("q('.live').dataset.state === 'live' && q('#banner').hidden")
    kill(site.pid("db"))
    page.until(f"{row('db')}.querySelector('.c-uptime').innerText.length < 4")
    page.complaints()  # of the address where nobody was meanwhile


def test_a_page_that_was_left_gives_its_streams_back(site):
    page = site.look(role="read")
    for _ in range(2):
        for path in PAGES:
            page.open(site.url + path)
            page.until("q('.live').dataset.state === 'live'")


# -- looks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_every_page_fits_its_window(site, size, colours, tmp_path):
    page = site.look(role="control")
    try:
        page.be(size, colours)
        for path in PAGES:
            page.run("document.querySelector(`nav a[data-page]`)?.focus()")
            page.open(site.url + path)
            page.until("q('.live').dataset.state === 'live' && q('h1').textContent")
            page.screenshot(tmp_path / f"{path.replace('/', '-') or 'services'}.png")
            wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
            assert page.run(f"return {wide}") <= 0, path
    finally:
        page.be(WIDE)


def test_what_is_inline_does_not_run(site):
    page = site.look(role="read")
    page.wait(
        """const done = arguments[0];
        addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
        const one = document.createElement("img"); one.src = "https://example.org/x.png";
        document.body.append(one);"""
    )
    refused = page.complaints()
    assert len(refused) == 1
    assert "Content Security Policy" in refused[0]


def test_it_works_below_a_prefix(site):
    page = site.browser
    with below(site.url.removeprefix("http://").rstrip("/"), "/tools/sup") as url:
        page.open(f"{url}static/icon.svg")
        page.run("sessionStorage.setItem('supervisord-pidfd.token', arguments[0])", TOKENS["read"])
        page.open(url)
        page.complaints()  # of the icon that it asks for by itself, at the root
        page.until(row("db"))
        page.press("j", "j", "ENTER")
        page.until("location.pathname === '/tools/sup/service/db'")
        page.open(f"{url}service/talks")
        page.until("q('.lines').innerText.includes('bold')")
        page.click(".brand")
        page.until("location.pathname === '/tools/sup/' && qq('tr[data-name]').length === 16")
        page.open("about:blank")
