"""The `[web]` table to its spec: where the gateway listens, and whose tokens open what.

The token file is read here, with the same distrust as a file of the configuration: whoever can
write it decides who may do what. Its lines are never shown, because a token that was pasted there
by mistake would be shown with them.
"""

import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from supervisord_pidfd.config.parts import given
from supervisord_pidfd.config.positions import Path, Places, Span
from supervisord_pidfd.config.reading import Reader, RefusedError
from supervisord_pidfd.config.settings import Sections, addresses
from supervisord_pidfd.config.sources import MASK, Place, Report, Source
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.core.spec import Token, WebSpec

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

ROLES = ("metrics", "read", "control")
MAX_TOKENS = 1000
RPC_SOCKET = "rpc.sock"
_HASH = re.compile(r"[0-9a-f]{64}", re.ASCII)
_LISTS = (("metrics", "listen"), ("web", "listen"), ("web", "rpc_listen"))


class Doors:
    """Look at who may come in where, and build the spec of it."""

    def __init__(self, sections: Sections, tree: Tree, report: Report, reader: Reader) -> None:
        """Look at the sections of this tree; `reader` reads the token file."""
        self._sections = sections
        self._tree = tree
        self._report = report
        self._reader = reader

    def spec(self, runtime_dir: str | None) -> WebSpec:
        """Build the spec; `runtime_dir` is where the socket of XML-RPC is by default."""
        table = self._sections.web
        if table is None:
            return WebSpec()
        token_file = None
        if table.token_file is not None:
            token_file = self._tree.absolute(table.token_file, ("web", "token_file"))
        spec = WebSpec(
            token_file=token_file,
            tokens=() if token_file is None else self._tokens(token_file),
            rpc_listen=self._rpc_listen(table, runtime_dir),
            **given(
                listen=addresses(table.listen, ("web", "listen"), self._tree),
                control=table.control,
                allowed_hosts=table.allowed_hosts,
                rpc=table.rpc,
                user=table.user,
            ),
        )
        self._look_at_strangers(spec)
        self._look_at_control(spec)
        self._look_at_twins(spec)
        return spec

    def _rpc_listen(self, table: "tables.Web", runtime_dir: str | None) -> tuple[str, ...]:
        if table.rpc in {None, "off"}:
            return ()
        written = addresses(table.rpc_listen, ("web", "rpc_listen"), self._tree)
        if written is not None:
            return written
        if runtime_dir is not None:
            return (f"unix:{os.path.join(runtime_dir, RPC_SOCKET)}",)
        message = "web.rpc: there is no runtime directory for its socket"
        self._error(("web", "rpc"), "missing-key", message, "write web.rpc_listen")
        return ()

    # -- who may come in --------------------------------------------------------------------------

    def _look_at_strangers(self, spec: WebSpec) -> None:
        """Refuse to open a door to other hosts that nobody has to show a token at."""
        if spec.token_file is not None:
            return
        for key, texts in (("listen", spec.listen), ("rpc_listen", spec.rpc_listen)):
            for text in texts:
                if not is_local(text):
                    message = f"web.{key}: other hosts reach {text}: needs web.token_file"
                    self._error(("web", key), "missing-key", message)

    def _look_at_control(self, spec: WebSpec) -> None:
        """Let nobody change anything without a token; a unix socket of root's own is one."""
        if spec.token_file is not None:
            return
        if spec.control:
            message = "web.control: needs web.token_file, else everybody here may change things"
            self._error(("web", "control"), "conflict", message)
        if spec.rpc == "control" and not all(map(is_unix, spec.rpc_listen)):
            message = 'web.rpc: "control" needs web.token_file, or a unix socket in web.rpc_listen'
            self._error(("web", "rpc"), "conflict", message)

    def _look_at_twins(self, spec: WebSpec) -> None:
        """Report an address that is to serve two things."""
        metrics = self._sections.metrics
        listens = metrics.listen if metrics is not None else None
        lists = (
            addresses(listens, _LISTS[0], self._tree) or (),
            spec.listen,
            spec.rpc_listen,
        )
        seen: dict[str, tuple[str, str]] = {}
        for where, texts in zip(_LISTS, lists, strict=True):
            for text in texts:
                first = seen.setdefault(text, where)
                if first != where and not text.endswith(":0"):
                    message = f"{'.'.join(where)}: {text} is in {'.'.join(first)} too"
                    place = self._tree.value(first)
                    self._report.error(
                        self._tree.value(where), "conflict", message, key=where, see_also=(place,)
                    )

    def _error(self, path: Path, code: str, message: str, hint: str | None = None) -> None:
        self._report.error(self._tree.value(path), code, message, key=path, hint=hint)

    # -- tokens -----------------------------------------------------------------------------------

    def _tokens(self, path: str) -> tuple[Token, ...]:
        key = ("web", "token_file")
        try:
            content, status = self._reader.trusted(path)
        except RefusedError as error:
            self._error(key, error.code, f"web.token_file: cannot read '{path}': {error.why}")
            return ()
        if status.st_mode & 0o004:
            message = "web.token_file: everybody on this host can read it"
            self._report.warning(self._tree.value(key), "world-readable-secret", message, key=key)
        lines = content.decode("utf-8", "replace").split("\n")
        found = tuple(dict.fromkeys(self._tokens_in(path, lines)))
        if len(found) > MAX_TOKENS:
            self._error(key, "too-large", f"web.token_file: more than {MAX_TOKENS} tokens")
        if not found and not self._report.told_of(path):
            self._error(key, "bad-value", f"web.token_file: there is no token in '{path}'")
        return found

    def _tokens_in(self, path: str, lines: list[str]) -> Iterator[Token]:
        shown = "\n".join(MASK if line.strip() else "" for line in lines)
        source = Source(path, os.path.dirname(path), Places("").over(shown))
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if not text or text.startswith("#"):
                continue
            role, _, digest = text.partition(":")
            digest = digest.strip().lower()
            if role in ROLES and _HASH.fullmatch(digest):
                yield Token(role, digest)
                continue
            what = "a SHA-256 in hexadecimal" if role in ROLES else f"one of {', '.join(ROLES)}"
            message = f"not ROLE:SHA256HEX: {'behind' if role in ROLES else 'before'} the colon"
            message += f" must stand {what}"
            self._report.error(
                Place(source, Span(number, 1, 1)), "bad-value", message,
                key=("web", "token_file"), hint="printf %s TOKEN | sha256sum", broken=True,
            )  # fmt: skip


def is_unix(address: str) -> bool:
    """Tell whether an address is a path."""
    return address.startswith("unix:")


def is_local(address: str) -> bool:
    """Tell whether only this host reaches an address."""
    host = address.rpartition(":")[0]
    return is_unix(address) or host.startswith("127.") or _is_loopback_v6(host)


def _is_loopback_v6(host: str) -> bool:
    import socket  # noqa: PLC0415 - few files have an address

    if not host.startswith("["):
        return False
    return socket.inet_pton(socket.AF_INET6, host[1:-1]) == b"\0" * 15 + b"\1"
