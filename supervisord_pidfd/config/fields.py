"""The types of configuration keys: what people write, checked and turned into what is meant.

Each is a function that takes the value tomli read and returns the meaning, or raises a
`PydanticCustomError` whose type is one of our problem codes; beside it stands its JSON Schema.
"""

import re
import shlex
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic_core import PydanticCustomError, core_schema

from supervisord_pidfd.config import later, units
from supervisord_pidfd.config.patterns import reach
from supervisord_pidfd.config.units import NotAUnitError, quoted

NAME = re.compile("[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
MAX_INSTANCES = 10_000
MAX_WORD = 131_071
"""Bytes of one argument; execve(2) refuses more (MAX_ARG_STRLEN, 32 pages)."""
MAX_WORDS = 2_000_000
"""Bytes of all arguments: a quarter of the usual stack limit."""

UNLIMITED = -1


def refuse(code: str, message: str, hint: str | None = None) -> PydanticCustomError:
    """Make the error that carries one of our codes through pydantic."""
    # The template is constant: a message with braces in it must not be formatted again.
    return PydanticCustomError(code, "{message}", {"message": message, "hint": hint})


class Kind:
    """Be the metadata of a kind of value: how it is checked, and how a schema describes it.

    pydantic's own validators look at the annotated type and at the signature of the function,
    which for a hundred keys takes longer than all the rest of a small file.
    """

    __slots__ = ("_check", "_schema")

    def __init__(self, check: Callable[[Any], Any], schema: dict[str, Any]) -> None:
        """Take the function that checks, and the JSON Schema of what it accepts."""
        self._check = check
        self._schema = schema

    def __get_pydantic_core_schema__(self, source: object, handler: object) -> Any:
        """Tell pydantic to call the function, and nothing else."""
        return core_schema.no_info_plain_validator_function(self._check)

    def __get_pydantic_json_schema__(self, schema: object, handler: object) -> dict[str, Any]:
        """Describe the value."""
        return dict(self._schema)


# -- plain kinds ----------------------------------------------------------------------------------


def check_flag(value: object) -> bool:
    """Accept true and false alone."""
    if isinstance(value, bool):
        return value
    raise refuse("bad-type", f"not a boolean: {quoted(value)}", "write true or false")


def check_text(value: object) -> str:
    """Accept a string without NUL."""
    if not isinstance(value, str):
        hint = f'write "{value}"' if isinstance(value, int | float) else None
        raise refuse("bad-type", f"not a string: {quoted(value)}", hint)
    if "\0" in value:
        raise refuse("bad-value", "must not contain a NUL character")
    return value


def check_words(value: object) -> str:
    """Accept a string that is not empty."""
    text = check_text(value)
    if not text:
        raise refuse("bad-value", "must not be empty")
    return text


def integer(low: int, high: int) -> Callable[[object], int]:
    """Make a check for an integer in a range."""

    def check(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise refuse("bad-type", f"not an integer: {quoted(value)}")
        if not low <= value <= high:
            raise refuse("bad-value", f"must be from {low} to {high}, not {quoted(value)}")
        return value

    return check


def number(low: float, high: float) -> Callable[[object], float]:
    """Make a check for a number in a range; NaN is in none."""

    def check(value: object) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise refuse("bad-type", f"not a number: {quoted(value)}")
        if not low <= value <= high:
            raise refuse("bad-value", f"must be from {low:g} to {high:g}, not {quoted(value)}")
        return float(value)

    return check


def one_of(*choices: str, not_yet: tuple[str, ...] = ()) -> Callable[[object], str]:
    """Make a check for one word of a list; a word of `not_yet` is known but not built."""

    def check(value: object) -> str:
        if not isinstance(value, str):
            raise refuse("bad-type", f"not a string: {quoted(value)}")
        if value in not_yet:
            raise refuse("later", f"{quoted(value)} is {later.MESSAGE}")
        if value not in choices:
            message = f"must be one of {', '.join(choices)}, not {quoted(value)}"
            raise refuse("bad-value", message)
        return value

    return check


def unit(parse: Callable[[object], Any]) -> Callable[[object], Any]:
    """Make a check of a parser of units: its error becomes a problem at the value."""

    def check(value: object) -> object:
        try:
            return parse(value)
        except NotAUnitError as error:
            raise refuse("bad-value", error.message, error.hint) from None

    return check


def check_duration(value: object) -> float:
    """Accept a finite duration."""
    return float(unit(units.parse_duration)(value))


def check_long_duration(value: object) -> float:
    """Accept a duration, or `"infinity"`."""
    return float(unit(lambda text: units.parse_duration(text, infinite=True))(value))


# -- kinds with more to say -----------------------------------------------------------------------


class CommandLine(NamedTuple):
    """Hold the words of a command before `${}` is filled in; `text` is the string they came of."""

    words: tuple[str, ...]
    text: str | None = None


def check_command(value: object) -> CommandLine:
    """Accept a list of words, or a string to be split as a shell would; no shell runs."""
    if isinstance(value, str):
        text = check_text(value)
        try:
            line = CommandLine(tuple(shlex.split(text)), text)
        except ValueError as error:
            raise refuse("bad-value", f"cannot split into words: {error}".lower()) from None
    elif isinstance(value, list):
        line = CommandLine(tuple(map(check_text, value)))
    else:
        raise refuse("bad-type", f"not a command: {quoted(value)}", "write a string or a list")
    if not line.words or not line.words[0]:
        raise refuse("bad-value", "the command is empty")
    sizes = [len(word.encode("utf-8", "surrogateescape")) for word in line.words]
    if max(sizes) > MAX_WORD or sum(sizes) > MAX_WORDS:
        raise refuse("too-large", "longer than execve(2) accepts")
    return line


def check_instances(value: object) -> tuple[str, ...]:
    """Accept a number of copies, or their names; return the names."""
    if isinstance(value, list):
        for name in value:
            if not isinstance(name, str) or not NAME.fullmatch(name):
                raise refuse("bad-value", f"not an instance name: {quoted(name)}", NAME_HINT)
        if not value:
            raise refuse("bad-value", "there must be at least one instance")
        if len(set(value)) < len(value):
            raise refuse("bad-value", "two instances have the same name")
        return tuple(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse("bad-type", f"not a number or a list of names: {quoted(value)}")
    return tuple(map(str, range(integer(1, MAX_INSTANCES)(value))))


NAME_HINT = "letters, digits, _ and -, at most 64, the first a letter or digit"


def check_globs(value: object) -> tuple[str, ...]:
    """Accept true (all), false (none), or a list of names and globs."""
    if isinstance(value, bool):
        return ("*",) if value else ()
    if isinstance(value, list):
        return tuple(map(check_words, value))
    raise refuse("bad-type", f"not a boolean or a list: {quoted(value)}")


def check_stdin(value: object) -> str:
    """Accept `null`, `inherit` or `file:PATH`."""
    text = check_text(value)
    if text in {"null", "inherit"} or (text.startswith("file:") and text != "file:"):
        return text
    raise refuse("bad-value", f"not a source: {quoted(value)}", 'write "null" or "file:PATH"')


def check_secret(value: object) -> str:
    """Accept `file:PATH` or `credential:NAME`; what was written is never repeated."""
    hint = 'write "file:PATH" or "credential:NAME"'
    if not isinstance(value, str) or "\0" in value:
        raise refuse("bad-type", "not a reference to a secret", hint)
    kind, _, rest = value.partition(":")
    if kind == "file" and rest:
        return value
    if kind == "credential" and re.fullmatch("[A-Za-z0-9_.-]+", rest) and rest not in {".", ".."}:
        return value
    raise refuse("bad-value", "not a reference to a secret", hint)


def check_variable(value: object) -> str:
    """Accept a name that can stand in an environment."""
    text = check_words(value)
    if "=" in text:
        raise refuse("bad-value", f"not a variable name: {quoted(value)}")
    return text


def check_account(value: object) -> str:
    """Accept a user or group: a name, or a number; `${}` is filled in later."""
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 2**32 - 1:
            raise refuse("bad-value", f"not a user or group: {quoted(value)}")
        return str(value)
    return check_words(value)


class End(NamedTuple):
    """Hold an exit code or a signal number, as `restart_prevent` lists them."""

    code: int | None = None
    signum: int | None = None


def check_end(value: object) -> End:
    """Accept an exit code (a number) or a signal (its name)."""
    if isinstance(value, str):
        return End(signum=int(unit(units.parse_signal)(value)))
    return End(code=integer(0, 255)(value))


class Step(NamedTuple):
    """Hold one step of `stop.sequence`."""

    signum: int
    timeout: float


def check_step(value: object) -> Step:
    """Accept `"SIGNAL DURATION"`."""
    words = value.split() if isinstance(value, str) else []
    if len(words) != 2:
        raise refuse("bad-value", f"not a step: {quoted(value)}", 'write "TERM 5s"')
    return Step(int(unit(units.parse_signal)(words[0])), check_duration(words[1]))


class LimitValues(NamedTuple):
    """Hold the soft and the hard value of an rlimit."""

    soft: int
    hard: int


def check_limit(value: object) -> LimitValues:
    """Accept a number, a size, `"infinity"`, or two of them as `"soft:hard"`."""
    if isinstance(value, str) and ":" in value:
        soft, _, hard = value.partition(":")
        pair = LimitValues(_limit(soft), _limit(hard))
        if _order(pair.soft) > _order(pair.hard):
            raise refuse("bad-value", f"the soft limit is above the hard one: {quoted(value)}")
        return pair
    both = _limit(value)
    return LimitValues(both, both)


def _limit(value: object) -> int:
    return UNLIMITED if value == "infinity" else int(unit(units.parse_size)(value))


def _order(value: int) -> float:
    return float("inf") if value == UNLIMITED else value


LIMIT_NAMES = (
    "as", "core", "cpu", "data", "fsize", "locks", "memlock", "msgqueue", "nice", "nofile",
    "nproc", "rss", "rtprio", "rttime", "sigpending", "stack",
)  # fmt: skip


def check_limit_name(value: object) -> str:
    """Accept the name of an rlimit; an unknown one is an unknown key."""
    if value in LIMIT_NAMES:
        return str(value)
    raise refuse("unknown-key", "")


def check_signal_name(value: object) -> int:
    """Accept a signal as a key."""
    return int(unit(units.parse_signal)(value))


def check_rewrite(value: object) -> int:
    """Accept a signal, or `"ignore"`, which is 0."""
    return 0 if value == "ignore" else int(unit(units.parse_signal)(value))


def check_check_name(value: object) -> str:
    """Accept the name of a health check as a key."""
    name = check_text(value)
    if not NAME.fullmatch(name):
        raise refuse("bad-value", f"not a name of a check: {quoted(value)}", NAME_HINT)
    return name


def check_listen(value: object) -> tuple[str, ...]:
    """Accept one address or a list of them."""
    addresses = value if isinstance(value, list) else [value]
    return tuple(unit(units.parse_address)(address) for address in addresses)


def check_regex(value: object) -> str:
    """Accept a regular expression of at most 1000 characters."""
    text = check_text(value)
    if len(text) > 1000:
        raise refuse("too-large", "longer than 1000 characters")
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise refuse("bad-value", f"not a regular expression: {error}") from None
    return text


def check_line_pattern(value: object) -> str:
    """Accept a regular expression that no line can keep busy for long."""
    text = check_regex(value)
    if reach(text) is None:
        message = "there are lines that it would take for ever on"
        raise refuse(
            "bad-value", message, "repeat nothing that repeats or has alternatives inside"
        )
    return text


def check_auto_flag(value: object) -> bool | None:
    """Accept true, false or `"auto"`, which is None."""
    if value == "auto":
        return None
    if isinstance(value, bool):
        return value
    raise refuse("bad-value", f"not a boolean: {quoted(value)}", 'write true, false or "auto"')


MAX_SOCKET = 107
"""Bytes of a path that a socket can be bound to, see unix(7)."""


def check_socket(value: object) -> str:
    """Accept the path of a socket, or `"none"`."""
    path = check_words(value)
    if len(path.encode("utf-8", "surrogateescape")) > MAX_SOCKET:
        raise refuse("too-large", f"longer than the {MAX_SOCKET} bytes a socket may have")
    return path


def check_outputs(value: object) -> tuple[str, ...]:
    """Accept a list of sinks, or one word that means none of them."""
    sinks = value if isinstance(value, list) else [value]
    sink = one_of(*SINKS, *ALONE)
    chosen = tuple(map(sink, sinks))
    if not isinstance(value, list):
        raise refuse("bad-type", f"not a list: {quoted(value)}", f'write ["{value}"]')
    return _together(chosen)


def check_own_outputs(value: object) -> tuple[str, ...]:
    """Accept a list of sinks for the daemon's own events, or `auto` or `null` alone."""
    if not isinstance(value, list):
        raise refuse("bad-type", f"not a list: {quoted(value)}", f'write ["{value}"]')
    sink = one_of(*SINKS, "auto", "null")
    return _together(tuple(map(sink, value)))


def _together(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return each word once; those that stand for themselves stand alone."""
    chosen = tuple(dict.fromkeys(words))
    for word in ALONE:
        if word in chosen and len(chosen) > 1:
            raise refuse("bad-value", f"{word} with something else", f'write ["{word}"] alone')
    return chosen or ("null",)


SINKS = ("file", "stdout", "journal", "syslog")
ALONE = ("auto", "inherit", "direct", "null")
"""Where the logger writes; what stands for one of these, and what it has nothing to do with."""


def check_rotation(value: object) -> float | str:
    """Accept a length of time, `"hourly"` or `"daily"`; at least a second."""
    if isinstance(value, str) and value in {"hourly", "daily"}:
        return value
    seconds = check_duration(value)
    if seconds < 1:
        raise refuse("bad-value", "shorter than 1s", 'write "hourly", or a time such as "6h"')
    return seconds


def check_web_path(value: object) -> str:
    """Accept the path part of a URL."""
    path = check_text(value)
    if not re.fullmatch(r"/[!-~]{0,1000}", path):
        raise refuse("bad-value", f"not a path of a URL: {quoted(value)}", 'write "/metrics"')
    return path


# -- as annotations -------------------------------------------------------------------------------

_STRING = {"type": "string"}
_WORDS = {"type": "array", "items": _STRING}
_DURATION = {"type": ["string", "number"], "examples": ["500ms", "10s", "1m30s"]}
_SIGNAL = {"type": ["string", "integer"], "examples": ["TERM", "SIGINT", "RTMIN+3"]}

Flag = Annotated[bool, Kind(check_flag, {"type": "boolean"})]
Text = Annotated[str, Kind(check_text, _STRING)]
Words = Annotated[str, Kind(check_words, {"type": "string", "minLength": 1})]
Duration = Annotated[float, Kind(check_duration, _DURATION)]
LongDuration = Annotated[float, Kind(check_long_duration, _DURATION)]
Signal = Annotated[int, Kind(unit(units.parse_signal), _SIGNAL)]
Umask = Annotated[
    int, Kind(unit(units.parse_umask), {"type": "string", "pattern": "^0?[0-7]{1,3}$"})
]
Cpus = Annotated[tuple[int, ...], Kind(unit(units.parse_cpus), _STRING)]
Command = Annotated[
    CommandLine, Kind(check_command, {"anyOf": [_STRING, {**_WORDS, "minItems": 1}]})
]
Instances = Annotated[
    tuple[str, ...],
    Kind(check_instances, {"anyOf": [{"type": "integer", "minimum": 1}, _WORDS]}),
]
Globs = Annotated[tuple[str, ...], Kind(check_globs, {"anyOf": [{"type": "boolean"}, _WORDS]})]
Stdin = Annotated[
    str, Kind(check_stdin, {"type": "string", "pattern": "^(null|inherit|file:.+)$"})
]
Secret = Annotated[
    str, Kind(check_secret, {"type": "string", "pattern": "^(file|credential):.+$"})
]
Variable = Annotated[str, Kind(check_variable, _STRING)]
Account = Annotated[str, Kind(check_account, {"type": ["string", "integer"]})]
ExitEnd = Annotated[End, Kind(check_end, _SIGNAL)]
StopStep = Annotated[Step, Kind(check_step, {"type": "string", "examples": ["TERM 5s"]})]
Size = Annotated[
    int, Kind(unit(units.parse_size), {"type": ["string", "integer"], "examples": ["64MiB"]})
]
CheckName = Annotated[
    str, Kind(check_check_name, {"type": "string", "pattern": f"^{NAME.pattern}$"})
]
Limit = Annotated[LimitValues, Kind(check_limit, {"type": ["string", "integer"]})]
LimitName = Annotated[str, Kind(check_limit_name, {"enum": list(LIMIT_NAMES)})]
SignalName = Annotated[int, Kind(check_signal_name, _STRING)]
Rewrite = Annotated[int, Kind(check_rewrite, _SIGNAL)]
Listen = Annotated[tuple[str, ...], Kind(check_listen, {"anyOf": [_STRING, _WORDS]})]
Regex = Annotated[str, Kind(check_regex, {"type": "string", "format": "regex"})]
LinePattern = Annotated[str, Kind(check_line_pattern, {"type": "string", "format": "regex"})]
AutoFlag = Annotated[bool | None, Kind(check_auto_flag, {"enum": ["auto", True, False]})]
Socket = Annotated[str, Kind(check_socket, {"type": "string", "minLength": 1})]
WebPath = Annotated[str, Kind(check_web_path, {"type": "string", "pattern": "^/"})]
OwnOutputs = Annotated[
    tuple[str, ...],
    Kind(check_own_outputs, {"type": "array", "items": {"enum": [*SINKS, "auto", "null"]}}),
]
Outputs = Annotated[
    tuple[str, ...],
    Kind(check_outputs, {"type": "array", "items": {"enum": [*SINKS, *ALONE]}}),
]
RotateEvery = Annotated[
    float | str,
    Kind(check_rotation, {"type": ["string", "number"], "examples": ["hourly", "daily", "6h"]}),
]
ExitCode = Annotated[int, Kind(integer(0, 255), {"type": "integer", "minimum": 0, "maximum": 255})]


def choice(*choices: str, not_yet: tuple[str, ...] = ()) -> Kind:
    """Make the metadata of a string that is one of a few words."""
    return Kind(one_of(*choices, not_yet=not_yet), {"enum": list(choices)})


def whole(low: int, high: int) -> Kind:
    """Make the metadata of an integer in a range."""
    return Kind(integer(low, high), {"type": "integer", "minimum": low, "maximum": high})


def real(low: float, high: float) -> Kind:
    """Make the metadata of a number in a range."""
    return Kind(number(low, high), {"type": "number", "minimum": low, "maximum": high})
