"""Where a service writes, and what becomes of it: `log.*` and `ready.log`."""

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from supervisord_pidfd.config import model
from supervisord_pidfd.config.filling import Filling, Where
from supervisord_pidfd.config.parts import given, rotation_of
from supervisord_pidfd.config.patterns import reach
from supervisord_pidfd.core.spec import LogFormat, LogSpec, Output, Overflow

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables

_ALONE = {"inherit": Output.INHERIT, "null": Output.NULL, "direct": Output.DIRECT}
DEFAULT = ("auto",)
"""What a service without `log.to` does."""

_NOTHING = LogSpec()


def words_of(service: model.Service) -> tuple[str, ...]:
    """Return what the file says of where a service writes."""
    return (service.log and service.log.to) or DEFAULT


def is_captured(service: model.Service) -> bool:
    """Tell whether the logger reads what a service writes."""
    return words_of(service)[0] not in _ALONE


def output_of(
    where: Where,
    service: model.Service,
    filling: Filling,
    own: Mapping[str, str],
    auto: Callable[[], tuple[str, ...]],
) -> tuple[Output, LogSpec]:
    """Return where one instance writes, and for the logger what it does with that.

    `auto` gives the sinks that suit where the daemon was started.
    """
    words = words_of(service)
    output = _ALONE.get(words[0], Output.CAPTURED)
    if output in {Output.INHERIT, Output.NULL}:
        return output, _NOTHING
    table = service.log
    path = _path(where, filling, "path", table.path if table else None)
    path = path or os.path.join(own.get("log.dir", "/"), f"{own['service.name']}.log")
    errors = _path(where, filling, "stderr_path", table.stderr_path if table else None) or path
    if output is Output.DIRECT:
        return output, LogSpec(path=path, stderr_path=errors)
    return output, LogSpec(
        to=auto() if words == ("auto",) else words,
        path=path,
        stderr_path=errors,
        **_pattern(service),
        **(_members(table) if table is not None else {}),
    )


def _pattern(service: model.Service) -> dict[str, Any]:
    text = None if service.ready is None else service.ready.log
    return {} if text is None else {"ready": text, "ready_reach": reach(text) or 0}


def _members(table: "tables.Log") -> dict[str, Any]:
    return rotation_of(table) | given(
        format=None if table.format in {None, "auto"} else LogFormat(table.format),
        overflow=None if table.overflow is None else Overflow(table.overflow),
        block_for=table.block_for,
        rate_count=table.rate_limit and table.rate_limit.number,
        rate_per=table.rate_limit and table.rate_limit.seconds,
        strip_ansi=table.strip_ansi,
        ring=table.ring,
        max_line=table.max_line,
    )


def _path(where: Where, filling: Filling, key: str, text: str | None) -> str | None:
    if text is None:
        return None
    inside = ("log", key)
    return where.absolute(filling.text(inside, text), inside)
