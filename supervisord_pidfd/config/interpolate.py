"""`${NAME}` in the text of a service: first our own names, then the environment."""

import re
from collections.abc import Callable, Mapping

MAX_RESULT = 1 << 20
MAX_DEPTH = 100

_REFERENCE = re.compile(r"\$\$|\$\{([^{}]*)\}")
_NAME = re.compile(r"([A-Za-z_][A-Za-z0-9_.]*)(?::-(.*))?", re.DOTALL)

Lookup = Callable[[str], str | None]


class UndefinedError(ValueError):
    """Say which names of a text have no value, or why a `${…}` means nothing."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(", ".join(names))
        self.names = names


class RingError(ValueError):
    """Say that variables name each other, so that none has a value; the first is also the last."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(f"these name each other: {' -> '.join(names)}")


def fill_in(text: str, lookup: Lookup) -> str:
    """Replace every `${NAME}` and `${NAME:-default}`; `$$` is `$`, any other `$` stays.

    Raises:
        UndefinedError: Names without a value or default.
        ValueError: The result is longer than 1 MiB, as values that repeat each other make it.
    """
    if "$" not in text:
        return text
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "$"
        reference = _NAME.fullmatch(match[1])
        found = lookup(reference[1]) if reference else None
        if found is None and reference and reference[2] is not None:
            found = reference[2]
        if found is None:
            missing.append(match[1])
            return ""
        return found

    filled = _REFERENCE.sub(value, text)
    if missing:
        raise UndefinedError(tuple(dict.fromkeys(missing)))
    if len(filled) > MAX_RESULT:
        raise ValueError(f"longer than 1 MiB when filled in ({len(filled)} characters)")
    return filled


class Variables:
    """Hold what `${}` may name in one service, strongest first.

    `own` are ours (`service.name`, …); `written` is the service's `environment`, whose values may
    themselves name others; `weaker` are its files and the defaults; `inherited` is the daemon's
    environment. A value that names itself gets the weaker one: `PATH = "/opt/bin:${PATH}"`.
    """

    def __init__(
        self,
        own: Mapping[str, str],
        written: Mapping[str, str],
        weaker: Mapping[str, str],
        inherited: Mapping[str, str],
    ) -> None:
        self._own = own
        self._written = written
        self._weaker = weaker
        self._inherited = inherited
        self._known: dict[str, str] = {}
        self._failed: dict[str, ValueError] = {}
        self._open: list[str] = []

    def lookup(self, name: str) -> str | None:
        """Return the value of a name, or None.

        Raises:
            UndefinedError, RingError, ValueError: As `written`.
        """
        if name in self._own:
            return self._own[name]
        if name in self._written and name not in self._open[-1:]:
            return self.written(name)
        return self._weaker.get(name, self._inherited.get(name))

    def written(self, name: str) -> str:
        """Return the value of a variable of the service's `environment`, filled in.

        Raises:
            UndefinedError, ValueError: As `fill_in`; or they name each other too deeply.
            RingError: Values name each other in a ring.
        """
        if len(self._open) > MAX_DEPTH:
            raise ValueError(f"variables that name each other more than {MAX_DEPTH} deep")
        if name in self._open:
            raise RingError((*self._open[self._open.index(name) :], name))
        if name not in self._known:
            if name in self._failed:
                raise self._failed[name]
            self._open.append(name)
            try:
                self._known[name] = fill_in(self._written[name], self.lookup)
            except ValueError as error:
                self._failed[name] = error
                raise
            finally:
                self._open.pop()
        return self._known[name]
