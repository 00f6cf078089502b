"""`%(program_name)s` and its kin: what Supervisor fills in, as marks or as what they stand for."""

import os
import re
from collections.abc import Iterator, Mapping

from supervisord_pidfd.convert.text import Marks, NotConvertibleError, is_name

_FORMAT = re.compile(r"%(?:\(([^)]*)\)([-#0 +]*[0-9]{0,3}(?:\.[0-9]{1,3})?[sdiouxXr])|(%))?")
_NUMBER = "process_num"


class Expressions:
    """Fill in the values of one program.

    `known` are names with a value of their own; `number` says what `process_num` becomes: a value
    for a single process, or the text `${service.instance}` for copies.
    """

    def __init__(self, known: Mapping[str, str | int], number: int | str = 0) -> None:
        self._known = {"host_node_name": os.uname().nodename, **known}
        self._number = number

    def expand(self, text: str, marks: Marks) -> str:
        """Return the text with what is known filled in, and marks for the variables in it.

        Raises:
            NotConvertibleError: A `%` means nothing, or names what is not known.
        """

        def meant(match: re.Match[str]) -> str:
            name, shape, percent = match.groups()
            if percent:
                return "%"
            if not name:
                raise NotConvertibleError("a % that means nothing: write %%")
            return self._value(name, shape, marks)

        return _FORMAT.sub(meant, text)

    def _value(self, name: str, shape: str, marks: Marks) -> str:
        if name.startswith("ENV_"):
            if not is_name(name[4:]) or shape != "s":
                raise NotConvertibleError("a variable that cannot be named in ${}")
            return marks.add(f"${{{name[4:]}}}")
        value: str | int | None = self._number if name == _NUMBER else self._known.get(name)
        if value is None:
            raise NotConvertibleError(f"there is no %({name})s")
        if name == _NUMBER and isinstance(value, str):
            return marks.add(value)
        try:
            return f"%{shape}" % value
        except (TypeError, ValueError):
            raise NotConvertibleError(f"%({name}){shape} cannot be filled in") from None


def number_formats(text: str) -> Iterator[str]:
    """Yield how the number of a process is written wherever a text has it: `d`, `02d`."""
    for name, shape, _ in _FORMAT.findall(text):
        if name == _NUMBER:
            yield shape


def variables(text: str) -> set[str]:
    """Return the variables of the environment that a text takes in."""
    names = (name for name, _, _ in _FORMAT.findall(text))
    return {name[4:] for name in names if name.startswith("ENV_")}
