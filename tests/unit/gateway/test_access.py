"""Who may ask for what: every level behind every door, and what a browser can be made to send."""

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.gateway.access import Level, Policy, judge, level_of
from supervisord_pidfd.gateway.http import Door, Request

TOKENS = {role: f"{role}-token-0123456789" for role in ("metrics", "read", "control")}
GUARDED = Policy(
    guarded=True,
    tokens=tuple((role, hashlib.sha256(t.encode()).hexdigest()) for role, t in TOKENS.items()),
    allowed_hosts=frozenset({"sup.example"}),
    control=True,
)
NEAR, FAR = Door("web", near=True), Door("web", near=False)
NEAR_METRICS, FAR_METRICS = Door("metrics", near=True), Door("metrics", near=False)


def ask(method="GET", door=NEAR, token=None, **headers):
    given = {"host": "localhost"} | {k.replace("_", "-"): v for k, v in headers.items()}
    if token:
        given["authorization"] = f"Bearer {token}"
    return Request("/", {}, given, method, door=door)


def code(policy, level, request):
    denial = judge(policy, level, request)
    return None if denial is None else denial.code


@pytest.mark.parametrize(
    ("door", "level", "expected"),
    [
        (NEAR, Level.OPEN, None),
        (NEAR, Level.METRICS, None),
        (NEAR, Level.READ, None),
        (NEAR, Level.CONTROL, 403),
        (FAR, Level.OPEN, None),
        (FAR, Level.METRICS, 403),
        (FAR, Level.READ, 403),
        (FAR, Level.CONTROL, 403),
        (NEAR_METRICS, Level.METRICS, None),
        (FAR_METRICS, Level.METRICS, None),
        (FAR_METRICS, Level.READ, 403),
    ],
)
def test_without_a_token_file(door, level, expected):
    assert code(Policy(), level, ask(door=door)) == expected
    assert code(Policy(), level, ask(door=door, token="whatever")) == expected


def test_control_is_never_free_even_where_it_is_switched_on():
    request = ask("POST", x_supervisord_request="1")

    assert code(Policy(control=True), Level.CONTROL, request) == 403


@pytest.mark.parametrize("door", [NEAR, FAR, NEAR_METRICS, FAR_METRICS])
@pytest.mark.parametrize(
    ("role", "codes"),
    [
        (None, [None, 401, 401, 401]),
        ("metrics", [None, None, 403, 403]),
        ("read", [None, None, None, 403]),
        ("control", [None, None, None, None]),
    ],
)
def test_with_a_token_file_the_token_decides_behind_every_door(door, role, codes):
    request = ask("POST", door, TOKENS.get(role), x_supervisord_request="1")

    assert [code(GUARDED, level, request) for level in Level] == codes


def test_an_empty_token_file_opens_nothing():
    policy = Policy(guarded=True)

    assert code(policy, Level.METRICS, ask()) == 401
    assert code(policy, Level.METRICS, ask(token="x")) == 401


def test_a_control_token_changes_nothing_where_control_is_off():
    request = ask("POST", token=TOKENS["control"], x_supervisord_request="1")

    assert code(GUARDED._replace(control=False), Level.CONTROL, request) == 403
    assert code(GUARDED._replace(control=False), Level.READ, request) is None


@pytest.mark.parametrize("header", [None, "", "0", "true", "1, 1"])
def test_a_post_needs_the_header_that_no_form_can_send(header):
    headers = {} if header is None else {"x_supervisord_request": header}

    assert code(GUARDED, Level.CONTROL, ask("POST", token=TOKENS["control"], **headers)) == 403
    assert code(GUARDED, Level.CONTROL, ask("GET", token=TOKENS["control"], **headers)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST", "localhost:9877", "127.0.0.1", "127.0.0.1:1", "10.1.2.3"),
        *("[::1]", "[::1]:9877", "[fe80::1]", "sup.example", "Sup.Example:443"),
    ],
)
def test_hosts_that_nobody_else_can_own(host):
    assert code(GUARDED, Level.READ, ask(token=TOKENS["read"], host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        *("", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "0x7f.1"),
        *(
            "127.1",
            "2130706433",
            "localhost.",
            "[::1",
            "::1",
            "[::1]x",
            "sup.example@evil.example",
        ),
        *("localhost:", "localhost:x", "localhost:999999", "a/b", "localhost, localhost"),
        *("127.0.0.1\x00", " localhost", "\u0661\u0662\u0667.0.0.1", "[::ffff:127.0.0.1%eth0]"),
    ],
)
def test_other_hosts_are_misdirected_whatever_the_token(host):
    request = ask(token=TOKENS["read"], host=host)

    assert code(GUARDED, Level.READ, request) == 421
    assert code(GUARDED, Level.CONTROL, request) == 421
    assert code(GUARDED, Level.METRICS, request) is None


def test_no_host_is_misdirected():
    assert code(Policy(), Level.READ, Request("/", {}, {}, door=NEAR)) == 421


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("localhost:9001", "http://localhost:9001"),
        ("LOCALHOST:9001", "http://LocalHost:9001"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("[::1]:9001", "http://[::1]:9001"),
        ("127.0.0.1:9001", "https://sup.example"),
        ("sup.example", "https://sup.example"),
    ],
)
def test_our_own_pages(host, origin):
    assert code(Policy(allowed_hosts=GUARDED.allowed_hosts), Level.READ, ask(host=host)) is None
    request = ask(token=TOKENS["read"], host=host, origin=origin)

    assert code(GUARDED, Level.READ, request) is None


@pytest.mark.parametrize(
    "origin",
    [
        *("", "null", "http://evil.example", "http://localhost", "http://localhost:9002"),
        *("http://127.0.0.1:9001", "file://", "http://localhost:9001/", "http://x@localhost:9001"),
        *("https://sup.example:444", "http://[", "http://localhost:9001 http://evil.example"),
        *("chrome-extension://localhost:9001", "http://localhost:9001?x", "//localhost:9001"),
    ],
)
def test_pages_of_others(origin):
    request = ask(token=TOKENS["control"], host="localhost:9001", origin=origin)

    assert code(GUARDED, Level.READ, request) == 403
    assert code(GUARDED, Level.CONTROL, request) == 403


@pytest.mark.parametrize(
    ("header", "level"),
    [
        ("Bearer {}", Level.READ),
        ("bearer  {}", Level.READ),
        ("Bearer x{}", Level.OPEN),
        ("Bearer {}x", Level.OPEN),
        ("Bearer", None),
        ("Bearer ", None),
        ("Basic {}", None),
        ("{}", None),
        ("Bearer {0} {0}", None),
        ("Bearer {0}, Bearer {0}", None),
        ("Bearer\t{}", None),
    ],
)
def test_what_is_a_token(header, level):
    request = ask(authorization=header.format(TOKENS["read"]))

    assert level_of(GUARDED, request) is level


def test_the_hash_of_a_token_is_no_token():
    for _, digest in GUARDED.tokens:
        assert code(GUARDED, Level.METRICS, ask(token=digest)) == 401


def test_a_token_with_two_roles_has_the_higher_one():
    digest = GUARDED.tokens[1][1]
    policy = GUARDED._replace(tokens=(("control", digest), ("metrics", digest)))

    assert level_of(policy, ask(token=TOKENS["read"])) is Level.CONTROL


TEXT = st.text(max_size=60)
HEADERS = st.dictionaries(
    st.sampled_from(["host", "origin", "authorization", "x-supervisord-request"]),
    TEXT | st.sampled_from(["localhost", "1", "http://localhost", f"Bearer {TOKENS['read']}"]),
)
POLICIES = st.sampled_from([Policy(), Policy(control=True), Policy(guarded=True), GUARDED])
DOORS = st.sampled_from([NEAR, FAR, NEAR_METRICS, FAR_METRICS])


@settings(deadline=None)
@given(HEADERS, POLICIES, DOORS, st.sampled_from(["GET", "POST"]))
def test_who_may_do_more_may_do_less(headers, policy, door, method):
    request = Request("/", {}, headers, method, door=door)
    allowed = [judge(policy, level, request) is None for level in Level]

    assert allowed[0]
    assert allowed == sorted(allowed, reverse=True) or method == "POST"
    assert not allowed[Level.CONTROL] or allowed[Level.READ]


@settings(deadline=None)
@given(HEADERS, DOORS, st.sampled_from(["GET", "POST"]))
def test_nobody_changes_anything_without_the_right_token(headers, door, method):
    headers = headers | {"authorization": f"Bearer {TOKENS['read']}"}

    for policy in (Policy(), Policy(control=True), GUARDED, GUARDED._replace(control=False)):
        request = Request("/", {}, headers, method, door=door)
        assert judge(policy, Level.CONTROL, request) is not None
