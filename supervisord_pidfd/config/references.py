"""How one service names others: `NAME`, `NAME@INST` or `@GROUP`, with an optional `:CONDITION`."""

import re
from typing import Annotated, NamedTuple

from supervisord_pidfd.config.fields import NAME, Kind, check_text, refuse
from supervisord_pidfd.config.units import quoted
from supervisord_pidfd.core.spec import Condition

_TARGET = re.compile(rf"@?{NAME.pattern}|{NAME.pattern}@{NAME.pattern}")
_CONDITIONS = tuple(Condition)
_HINT = 'write "NAME", "NAME@INST" or "@GROUP", with ":ready" or the like behind it'


class Ref(NamedTuple):
    """Hold a reference: whom it names, and what it waits for; None is the target's usual."""

    target: str
    condition: Condition | None = None


def check_reference(value: object) -> Ref:
    """Accept a name with or without a condition."""
    target, colon, condition = check_text(value).partition(":")
    if not _TARGET.fullmatch(target):
        raise refuse("bad-value", f"not a reference: {quoted(value)}", _HINT)
    if not colon:
        return Ref(target)
    if condition not in _CONDITIONS:
        message = f"must wait for one of {', '.join(_CONDITIONS)}, not {quoted(condition)}"
        raise refuse("bad-value", message)
    return Ref(target, Condition(condition))


def check_target(value: object) -> Ref:
    """Accept a name without a condition."""
    reference = check_reference(value)
    if reference.condition is not None:
        raise refuse("bad-value", f"takes no condition: {quoted(value)}")
    return reference


_NAMED = rf"(@?{NAME.pattern}|{NAME.pattern}@{NAME.pattern})"
Reference = Annotated[
    Ref,
    Kind(
        check_reference,
        {"type": "string", "pattern": f"^{_NAMED}(:({'|'.join(_CONDITIONS)}))?$"},
    ),
]
Target = Annotated[Ref, Kind(check_target, {"type": "string", "pattern": f"^{_NAMED}$"})]
