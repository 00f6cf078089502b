"""The dashboard's files: what is served, and that nothing in them breaks their policy."""

import re

import pytest

from supervisord_pidfd.gateway.access import Policy
from supervisord_pidfd.gateway.http import Door, Request
from supervisord_pidfd.gateway.pages import PAGES, POLICY, Pages, load, root_of
from supervisord_pidfd.gateway.router import Router
from tests.unit.gateway.records import drive

WEB = Door("web")
FILES = load()
SORTS = {"text/javascript", "text/css", "image/svg+xml"}
SCRIPTS = sorted(name for name in FILES if name.endswith(".js"))


@pytest.fixture(scope="module")
def router():
    return Router(Policy(guarded=True), Pages(FILES).routes())


def get(router, path, door=WEB, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return drive(router.answer(Request(path, headers={"host": "localhost", **named}, door=door)))


@pytest.mark.parametrize("path", [path.replace("{name}", "worker@0") for path in PAGES])
def test_every_page_is_served_without_a_token(router, path):
    answer = get(router, path)

    assert answer.code == 200
    assert answer.content_type == "text/html; charset=utf-8"
    assert dict(answer.headers)["Content-Security-Policy"] == POLICY


def test_a_page_has_no_place_for_the_root_left(router):
    assert b"{root}" not in get(router, "/").body


def test_pages_are_not_served_where_only_metrics_are(router):
    assert get(router, "/", Door("metrics")).code == 404


@pytest.mark.parametrize(
    ("path", "root"), [("/", "./"), ("/events", "./"), ("/service/web", "../")]
)
def test_links_are_relative(router, path, root):
    body = get(router, path).body.decode()

    assert set(re.findall(r'(?:src|href)="([^"]*)static/', body)) == {root}


@pytest.mark.parametrize("path", ["/", "/service/web"])
def test_the_prefix_that_a_proxy_names_is_taken(router, path):
    body = get(router, path, x_forwarded_prefix="/tools/sup/").body.decode()

    assert set(re.findall(r'(?:src|href)="([^"]*)static/', body)) == {"/tools/sup/"}


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "https://evil.example",
        '/a"><script>',
        "/a/../b",
        "/./a",
        "evil",
        "/a\\b",
        "/" + "a" * 300,
        "/",
        "/é",
    ],
)
def test_a_prefix_that_could_lead_elsewhere_is_not_taken(prefix):
    assert root_of(Request("/", headers={"x-forwarded-prefix": prefix})) == "./"


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
def test_what_the_browser_has_is_not_sent_again(router, path):
    tag = dict(get(router, path).headers)["ETag"]
    again = get(router, path, if_none_match=f'"other", W/{tag}')

    assert (again.code, again.body) == (304, b"")
    assert dict(again.headers)["ETag"] == tag
    assert get(router, path, if_none_match='"other"').code == 200


def test_the_tag_of_a_page_tells_where_it_is(router):
    tags = {dict(get(router, path).headers)["ETag"] for path in ("/", "/events", "/service/web")}

    assert len(tags) == 2


@pytest.mark.parametrize("name", ["nothing.js", "..", "index.html", "app.js.map", ""])
def test_only_what_was_there_at_the_start_is_served(router, name):
    assert get(router, f"/static/{name}").code == 404


@pytest.mark.parametrize("name", sorted(set(FILES) - {"index.html"}))
def test_every_file_is_served_as_what_it_is(router, name):
    answer = get(router, f"/static/{name}")

    assert answer.body == FILES[name]
    assert answer.content_type.partition(";")[0] in SORTS


def test_the_policy_lets_nothing_in_from_elsewhere():
    sources = {word for part in POLICY.split("; ") for word in part.split()[1:]}

    assert sources == {"'none'", "'self'", "'script'"}


def test_the_page_has_nothing_inline():
    page = FILES["index.html"].decode()

    assert not re.search(r"<style|style=|\son\w+=|javascript:", page)
    assert re.findall(r"<script[^>]*>(.*?)</script>", page) == [""]


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_reads_text_as_html_or_code(name):
    text = FILES[name].decode()
    forbidden = r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|srcdoc"

    assert not re.search(forbidden, text)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_is_of_a_file_that_is_shipped(name):
    imports = re.findall(
        r'^(?:import|export) .*? from "(.*?)";', FILES[name].decode(), re.MULTILINE
    )

    assert {one.removeprefix("./") for one in imports} <= set(FILES)
    assert all(one.startswith("./") for one in imports)


@pytest.mark.parametrize("name", sorted(FILES))
def test_nothing_comes_from_another_host(name):
    found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", FILES[name].decode()))

    assert found <= {"http://www.w3.org/2000/svg"}


# -- colours --------------------------------------------------------------------------------------

PAIR = re.compile(r"--([\w-]+): light-dark\(#([0-9a-f]{6}), #([0-9a-f]{6})\);")
INKS = (
    "ink", "soft", "accent", "running", "starting", "waiting", "stopping", "stopped", "backoff",
    "exited", "failed",
)  # fmt: skip


def luminance(colour):
    """Give the relative luminance that WCAG 2 defines."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", ["paper", "card", "sunk"])
@pytest.mark.parametrize("ink", INKS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_on_every_ground(ink, ground, scheme):
    colours = {
        name: {"light": light, "dark": dark}[scheme]
        for name, light, dark in PAIR.findall(FILES["app.css"].decode())
    }

    assert contrast(colours[ink], colours[ground]) >= 4.5
