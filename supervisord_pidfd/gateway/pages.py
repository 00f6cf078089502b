"""The dashboard's files, read once at the start.

They hold no data and need no token: what they show comes from the API, to whoever may read it. All
links are relative, so that a page works below any prefix that a proxy puts in front of it; where
the proxy names the prefix (`X-Forwarded-Prefix`), also without a slash at its end.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from supervisord_pidfd.gateway.access import Level
from supervisord_pidfd.gateway.http import Request, Response, refusal
from supervisord_pidfd.gateway.router import Route

STATIC = os.path.join(os.path.dirname(__file__), "static")
SHELL = "index.html"
ICON = "icon.svg"
ROOT = b"{root}"
"""What stands in the page for the way to the root."""

TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".html": "text/html; charset=utf-8",
}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
"""Nothing from elsewhere, nothing inline, and no text that is read as HTML or script."""

PAGES = ("/", "/timeline", "/graph", "/events", "/config", "/service/{name}")
_PREFIX = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)
_PREFIX_MAX = 256


@dataclass(frozen=True, slots=True)
class File:
    """Hold a file and what browsers are told about it."""

    body: bytes
    content_type: str
    etag: str


def file_of(name: str, body: bytes) -> File:
    """Describe a file; its tag changes with its content."""
    digest = hashlib.sha256(body).hexdigest()[:16]
    return File(body, TYPES[os.path.splitext(name)[1]], f'"{digest}"')


def load(directory: str = STATIC) -> dict[str, bytes]:
    """Read the files of the dashboard.

    Raises:
        OSError: They are not there: the package is not whole.
    """
    found: dict[str, bytes] = {}
    for name in sorted(os.listdir(directory)):
        if os.path.splitext(name)[1] in TYPES:
            with open(os.path.join(directory, name), "rb") as file:
                found[name] = file.read()
    return found


class Pages:
    """Serve the dashboard's pages, which are one page, and its files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._shell = files[SHELL]
        self._files = {name: file_of(name, body) for name, body in files.items() if name != SHELL}

    def routes(self) -> list[Route]:
        """Return the rows that we answer."""
        rows = [Route("GET", path, Level.OPEN, "page", self.page) for path in PAGES]
        icon = Route("GET", "/favicon.ico", Level.OPEN, "static", self.icon)
        return [*rows, icon, Route("GET", "/static/{file}", Level.OPEN, "static", self.file)]

    async def page(self, request: Request) -> Response:
        """Serve the page; its scripts find out from the address what it is to show."""
        body = self._shell.replace(ROOT, root_of(request).encode("ascii"))
        return _served(request, file_of(SHELL, body))

    async def icon(self, request: Request) -> Response:
        """Serve the icon to browsers that ask for it by themselves."""
        return _served(request, self._files[ICON])

    async def file(self, request: Request) -> Response:
        """Serve a file; there are those that were there at the start, and no others."""
        file = self._files.get(request.params["file"])
        return refusal(404) if file is None else _served(request, file)


def root_of(request: Request) -> str:
    """Return the way from a page to the root: what the proxy says, or so many levels up."""
    prefix = request.headers.get("x-forwarded-prefix", "").rstrip("/")
    if len(prefix) <= _PREFIX_MAX and _PREFIX.fullmatch(prefix) and "/." not in prefix:
        return f"{prefix}/"
    return "./" if request.path.count("/") == 1 else "../" * (request.path.count("/") - 1)


def _served(request: Request, file: File) -> Response:
    headers = (
        ("Cache-Control", "no-cache"),
        ("Content-Security-Policy", POLICY),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("ETag", file.etag),
        ("Vary", "X-Forwarded-Prefix"),
    )
    known = request.headers.get("if-none-match", "")
    if file.etag in {tag.strip().removeprefix("W/") for tag in known.split(",")}:
        return Response(304, b"", file.content_type, headers)
    return Response(200, file.body, file.content_type, headers)
