"""Where a service writes, and what becomes of it: `log.*` and `ready.log`."""

import os
from collections.abc import Mapping

from supervisord_pidfd.config import model
from supervisord_pidfd.config.filling import Filling, Where
from supervisord_pidfd.config.parts import given
from supervisord_pidfd.core.spec import LogFormat, LogSpec, Output, Overflow

_ALONE = {"inherit": Output.INHERIT, "null": Output.NULL}
DEFAULT = Output.INHERIT
"""What a service without `log.to` does."""

_NOTHING = LogSpec()


def output_of(
    where: Where, service: model.Service, filling: Filling, own: Mapping[str, str]
) -> tuple[Output, LogSpec]:
    """Return where one instance writes, and for the logger what it does with that."""
    table = service.log
    sinks = table.to if table is not None else None
    output = DEFAULT if sinks is None else _ALONE.get(sinks[0], Output.CAPTURED)
    if table is None or sinks is None or output is not Output.CAPTURED:
        return output, _NOTHING
    usual = os.path.join(own.get("log.dir", "/"), f"{own['service.name']}.log")
    path = _path(where, filling, "path", table.path) or usual
    every = table.rotate_every
    members = given(
        format=None if table.format in {None, "auto"} else LogFormat(table.format),
        rotate_size=table.rotate_size,
        rotate_keep=table.rotate_keep,
        rotate_total=table.rotate_total,
        rotate_every=every if isinstance(every, float) else None,
        rotate_at=every if isinstance(every, str) else None,
        compress=table.compress,
        overflow=None if table.overflow is None else Overflow(table.overflow),
        block_for=table.block_for,
        rate_count=table.rate_limit and table.rate_limit.number,
        rate_per=table.rate_limit and table.rate_limit.seconds,
        strip_ansi=table.strip_ansi,
        ring=table.ring,
        max_line=table.max_line,
        ready=service.ready and service.ready.log,
    )
    return output, LogSpec(
        to=sinks,
        path=path,
        stderr_path=_path(where, filling, "stderr_path", table.stderr_path) or path,
        **members,
    )


def _path(where: Where, filling: Filling, key: str, text: str | None) -> str | None:
    if text is None:
        return None
    inside = ("log", key)
    return where.absolute(filling.text(inside, text), inside)
