"""Who may ask for what: levels, tokens, and what keeps browsers from being used against us.

A web page of anywhere can make a browser on this machine send requests to us. It cannot read the
answers, for we allow no other origin; but a request may already do something, and a name that its
owner points to 127.0.0.1 makes the page ours (DNS rebinding). So for what matters the Host must be
a name that nobody else can own, an Origin must be ours, and a request that changes something must
have a header that no form can send. Pure.
"""

import enum
import hashlib
import hmac
import ipaddress
import re
from typing import NamedTuple
from urllib.parse import urlsplit

from supervisord_pidfd.gateway.http import Request

REQUEST_HEADER = "x-supervisord-request"
_TOKEN = re.compile(r"bearer +([!-~]{1,512})", re.IGNORECASE | re.ASCII)
_HOST = re.compile(r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9._-]{1,253})(?::([0-9]{1,5}))?", re.ASCII)


class Level(enum.IntEnum):
    """Order what a request needs, and what a token gives."""

    OPEN = 0
    METRICS = 1
    READ = 2
    CONTROL = 3


ROLES = {"metrics": Level.METRICS, "read": Level.READ, "control": Level.CONTROL}
"""The words of a token file."""


class Policy(NamedTuple):
    """Hold what the configuration says; `tokens` are pairs of a role and a SHA-256 in hex.

    `guarded` is true with a token file, also an empty one: then nothing but `open` goes without.
    """

    guarded: bool = False
    tokens: tuple[tuple[str, str], ...] = ()
    allowed_hosts: frozenset[str] = frozenset()
    control: bool = False


class Denial(NamedTuple):
    """Say why a request is not answered: the status, the name of the error, the text."""

    code: int
    name: str
    message: str


_TURNED_OFF = Denial(403, "Forbidden", "changes over HTTP are switched off (web.control)")
_NO_TOKEN = Denial(401, "Unauthorized", "this needs a token: Authorization: Bearer TOKEN")
_BAD_TOKEN = Denial(401, "Unauthorized", "this token is not known here")
_TOO_LITTLE = Denial(403, "Forbidden", "this token does not allow that")
_NOT_OPEN = Denial(403, "Forbidden", "without web.token_file this is for this machine alone")
_NO_HEADER = Denial(403, "Forbidden", "a request that changes something needs the header")
_FOREIGN = Denial(403, "Forbidden", "this comes from a page of another origin")
_MISDIRECTED = Denial(421, "MisdirectedRequest", "this Host is not known here (web.allowed_hosts)")


def judge(policy: Policy, level: Level, request: Request) -> Denial | None:
    """Decide whether a request may have what needs this level; None means yes."""
    if level is Level.OPEN:
        return None
    if level >= Level.READ:
        denial = judge_browser(policy, request)
        if denial is not None:
            return denial
    if level is Level.CONTROL and not policy.control:
        return _TURNED_OFF
    denial = _judge_token(policy, level, request)
    if denial is None and request.method == "POST" and request.headers.get(REQUEST_HEADER) != "1":
        return _NO_HEADER._replace(message=f"{_NO_HEADER.message} X-Supervisord-Request: 1")
    return denial


def level_of(policy: Policy, request: Request) -> Level | None:
    """Return what the request's token gives; None without a token, OPEN for an unknown one."""
    match = _TOKEN.fullmatch(request.headers.get("authorization", ""))
    return None if match is None else level_of_token(policy, match[1])


def level_of_token(policy: Policy, token: str) -> Level:
    """Return what a token gives; OPEN for an unknown one."""
    digest = hashlib.sha256(token.encode()).hexdigest()
    found = Level.OPEN
    # All of them, each in the same time: how long we take says nothing about any.
    for role, known in policy.tokens:
        if hmac.compare_digest(digest, known):
            found = max(found, ROLES[role])
    return found


def _judge_token(policy: Policy, level: Level, request: Request) -> Denial | None:
    if not policy.guarded:
        return None if level <= _free(request) else _NOT_OPEN
    given = level_of(policy, request)
    if given is None:
        return _NO_TOKEN
    if given is Level.OPEN:
        return _BAD_TOKEN
    return None if level <= given else _TOO_LITTLE


def _free(request: Request) -> Level:
    """Return what a door gives to everybody, where there are no tokens."""
    if request.door.near:
        return Level.READ
    return Level.METRICS if request.door.purpose == "metrics" else Level.OPEN


def judge_browser(policy: Policy, request: Request) -> Denial | None:
    """Decide whether a request may come from a page that is not ours; None means no."""
    host = host_of(request.headers.get("host", ""))
    if host is None or not _is_ours(policy, host.name):
        return _MISDIRECTED
    origin = request.headers.get("origin")
    if origin is not None and not _is_same(policy, origin, host):
        return _FOREIGN
    return None


# -- hosts ----------------------------------------------------------------------------------------


class Host(NamedTuple):
    """Hold a Host header: a name in lower case, or an address, and the port as written."""

    name: str
    port: str | None


def host_of(text: str) -> Host | None:
    """Read the value of a Host header; None if it is none."""
    match = _HOST.fullmatch(text.lower())
    if match is None or (match[1].startswith("[") and not _is_ip(match[1])):
        return None
    return Host(match[1], match[2])


def _is_ip(name: str) -> bool:
    try:
        if name.startswith("["):
            ipaddress.IPv6Address(name[1:-1])
        else:
            ipaddress.IPv4Address(name)
    except ValueError:
        return False
    return True


def _is_ours(policy: Policy, name: str) -> bool:
    """Tell whether nobody else can own this name: an address, `localhost`, or an allowed one."""
    return name == "localhost" or name in policy.allowed_hosts or _is_ip(name)


def _is_same(policy: Policy, origin: str, host: Host) -> bool:
    """Tell whether a page of this origin is ours: the same host and port, or an allowed name.

    The scheme is not compared: a proxy in front may speak TLS, and we do not see it.
    """
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    if parts.scheme not in {"http", "https"} or parts.path or parts.query or parts.fragment:
        return False
    theirs = host_of(parts.netloc)
    if theirs is None:
        return False
    return theirs == host or (theirs.port is None and theirs.name in policy.allowed_hosts)
