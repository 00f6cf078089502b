"""Which row answers a request: found by path, judged once, counted under its name."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from supervisord_pidfd.gateway.access import Level, Policy, judge
from supervisord_pidfd.gateway.http import Request, Response, failure, refusal

EVERYWHERE = frozenset({"metrics", "web"})
WEB = frozenset({"web"})
API = "/v1/"

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Route(NamedTuple):
    """Say who answers what.

    A part of `path` in braces stands for any one part, which the handler finds in
    `Request.params`. `level` is what a client needs; `handler` the name that requests are counted
    under; `doors` the purposes of the listeners that serve it. GET includes HEAD.
    """

    method: str
    path: str
    level: Level
    handler: str
    answer: Handler
    doors: frozenset[str] = WEB


class _Place(NamedTuple):
    """Hold what one path has: a row for each method, and how its parts are called."""

    parts: tuple[str, ...]
    rows: dict[str, Route]


class Router:
    """Hold the rows; answer requests by them."""

    def __init__(self, policy: Policy, routes: Iterable[Route]) -> None:
        self._policy = policy
        places: dict[str, _Place] = {}
        for route in routes:
            place = places.setdefault(route.path, _Place(tuple(route.path.split("/")), {}))
            place.rows[route.method] = route
        self._exact = {path: one for path, one in places.items() if "{" not in path}
        self._patterns = [one for path, one in places.items() if "{" in path]

    async def answer(self, request: Request) -> Response:
        """Answer one request; whatever is not in a row is refused before anybody looks at it."""
        place = self._find(request.path)
        rows = {} if place is None else _rows_behind(place, request.door.purpose)
        if place is None or not rows:
            return _refused(request, 404, "NotFound", "nothing is served at this path")
        route = rows.get("GET" if request.method == "HEAD" else request.method)
        if route is None:
            allow = (("Allow", ", ".join(_methods(rows))),)
            text = "this path does not take this method"
            return _refused(request, 405, "MethodNotAllowed", text, allow)
        denial = judge(self._policy, route.level, request)
        if denial is None:
            params = _params(place, request.path)
            response = await route.answer(replace(request, params=params))
        else:
            challenge = (("WWW-Authenticate", "Bearer"),) if denial.code == 401 else ()
            response = _refused(request, *denial, challenge)
        return replace(response, handler=route.handler)

    def _find(self, path: str) -> _Place | None:
        if path in self._exact:
            return self._exact[path]
        parts = path.split("/")
        return next((one for one in self._patterns if _fits(one.parts, parts)), None)


def _fits(pattern: tuple[str, ...], parts: list[str]) -> bool:
    return len(pattern) == len(parts) and all(
        (wanted.startswith("{") and part != "") or wanted == part
        for wanted, part in zip(pattern, parts, strict=True)
    )


def _rows_behind(place: _Place, purpose: str) -> Mapping[str, Route]:
    return {method: route for method, route in place.rows.items() if purpose in route.doors}


def _methods(rows: Mapping[str, Route]) -> list[str]:
    return sorted([*rows, *(["HEAD"] if "GET" in rows else [])])


def _params(place: _Place, path: str) -> dict[str, str]:
    pairs = zip(place.parts, path.split("/"), strict=True)
    return {name[1:-1]: part for name, part in pairs if name.startswith("{")}


def _refused(
    request: Request,
    code: int,
    name: str,
    message: str,
    headers: tuple[tuple[str, str], ...] = (),
) -> Response:
    """Refuse in the shape that is expected there: JSON from the API, a line elsewhere."""
    if request.path.startswith(API):
        return failure(code, name, message, headers=headers)
    return refusal(code, headers)
