"""The words of a command line: which verb, which names, which values; or what is wrong with them.

Options may stand before or after the verb and between the names; `--` ends them. A cluster of
short flags is taken apart, the last of them may have its value attached: `-fn5`.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from supervisord_pidfd.cli import verbs
from supervisord_pidfd.cli.verbs import ALL, BY_WORD, GLOBAL, HINTS, Option, Verb
from supervisord_pidfd.errors import UsageError

EVERYTHING = "all"
"""What `--all` sends: no service can have this name."""


class Words(NamedTuple):
    """Hold a command line that was understood."""

    verb: Verb
    operands: tuple[str, ...]
    values: dict[str, object]

    def has(self, key: str) -> bool:
        """Tell whether a switch is on."""
        return self.values.get(key) is True

    def text(self, key: str) -> str | None:
        """Return the value of an option that is text; None if it was not given."""
        value = self.values.get(key)
        return value if isinstance(value, str) else None

    def number(self, key: str) -> float | None:
        """Return the value of an option that is a number; None if it was not given."""
        value = self.values.get(key)
        return value if isinstance(value, int | float) and not isinstance(value, bool) else None

    @property
    def names(self) -> list[str] | None:
        """Return the names as the daemon takes them; None for no choice."""
        if ALL in self.verb.options and self.has("all"):
            return [EVERYTHING]
        return list(self.operands) or None

    @property
    def what(self) -> str:
        """Say what was to be done, as errors do: `start 'web', 'db'`."""
        if self.has("reopen"):
            return "reopen the log files"
        if self.names == [EVERYTHING]:
            return self.verb.doing.format("all services")
        if not self.operands or "{}" not in self.verb.doing:
            return self.verb.bare or self.verb.doing.format("").rstrip()
        return self.verb.doing.format(quoted(self.operands))


def quoted(names: Sequence[str]) -> str:
    """Write names for a sentence; a long list is cut."""
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return f"{shown} and {len(names) - 3} more" if len(names) > 3 else shown


def parse(argv: Sequence[str]) -> Words:
    """Understand a command line.

    Raises:
        UsageError: The text says what is wrong with it.
    """
    verb, rest = _split_verb(argv)
    options = {flag: option for option in (*GLOBAL, *verb.options) for flag in option.flags}
    values: dict[str, object] = {}
    operands: list[str] = []
    words = iter(rest)
    for word in words:
        if word == "--":
            operands += words
        elif word.startswith("-") and word != "-" and not _is_signal(verb, word, operands):
            for option, value in _options(word, words, options):
                _keep(values, option, value)
        else:
            operands.append(word)
    found = Words(verb, tuple(operands), values)
    if found.has("help"):
        return found
    _check(found)
    return _with_signal(found) if verb.method == "Signal" else found


def _split_verb(argv: Sequence[str]) -> tuple[Verb, list[str]]:
    """Take the verb out of the words: the first that is neither an option nor its value."""
    takes_value = {flag for option in GLOBAL if option.metavar for flag in option.flags}
    rest = list(argv)
    skip = False
    for index, word in enumerate(argv):
        if skip or (word.startswith("-") and word != "--"):
            skip = not skip and word in takes_value
            continue
        if word == "--":
            break
        del rest[index]
        return _verb(word), rest
    if "--version" in rest:
        return BY_WORD["version"], rest
    return BY_WORD["status"], rest


def _verb(word: str) -> Verb:
    if word in BY_WORD:
        return BY_WORD[word]
    if word in HINTS:
        raise UsageError(f"cannot {word}: no such verb ({HINTS[word]})")
    from difflib import get_close_matches  # noqa: PLC0415 - 5 ms that a right verb need not pay

    close = get_close_matches(word, BY_WORD, 1)
    hint = f"did you mean '{close[0]}'?" if close else "'pidfdctl --help' lists them"
    raise UsageError(f"cannot do '{word}': no such verb ({hint})")


def _is_signal(verb: Verb, word: str, operands: list[str]) -> bool:
    """Tell whether it is the `-9` or `-HUP` that the fingers know from kill(1)."""
    return verb.name in {"kill", "signal"} and not operands and looks_like_signal(word[1:])


def looks_like_signal(word: str) -> bool:
    """Tell whether a word can only be meant as a signal."""
    try:
        verbs.signal_number(word)
    except UsageError:
        return False
    return True


def _with_signal(words: Words) -> Words:
    """Take the signal out of the operands: `signal SIG NAME…`, `kill [SIG] NAME…`, `kill -9`."""
    word, names = "TERM", words.operands
    everything = words.has("all")
    if words.verb.name == "signal" or (
        names and (len(names) > 1 or everything) and looks_like_signal(names[0].lstrip("-"))
    ):
        word, names = names[0].lstrip("-"), names[1:]
    verbs.signal_number(word)
    if len(names) == 1 and names[0].startswith("-"):  # `kill -9`, and nobody to be killed
        names = ()
    if bool(names) == everything:
        raise UsageError(f"cannot {words.verb.name}: needs names, or --all ({usage(words.verb)})")
    return words._replace(operands=names, values={**words.values, "signal": word.upper()})


def _options(
    word: str, words: Iterator[str], known: dict[str, Option]
) -> Iterator[tuple[Option, str | None]]:
    """Take one word apart into options, with the value of the last."""
    if word.startswith("--"):
        flag, equals, value = word.partition("=")
        option = _known(flag, known)
        if option.metavar is None and equals:
            raise UsageError(f"'{flag}' takes no value")
        yield option, None if option.metavar is None else value if equals else _next(flag, words)
        return
    cluster = word[1:]
    while cluster:
        flag, cluster = f"-{cluster[0]}", cluster[1:]
        option = _known(flag, known)
        if option.metavar is not None:
            yield option, cluster or _next(flag, words)
            return
        yield option, None


def _known(flag: str, known: dict[str, Option]) -> Option:
    option = known.get(flag)
    if option is not None:
        return option
    whole = [name for name in known if name.startswith(flag)] if len(flag) > 3 else []
    hint = f" (did you mean '{whole[0]}'?)" if len(whole) == 1 else ""
    raise UsageError(f"unknown option '{flag}'{hint}")


def _next(flag: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise UsageError(f"'{flag}' needs a value")
    return value


def _keep(values: dict[str, object], option: Option, word: str | None) -> None:
    if word is None:
        values[option.key] = True
        return
    if option.choices and word not in option.choices:
        raise UsageError(f"'{option.flags[-1]} {word}' is none of {', '.join(option.choices)}")
    try:
        value = option.read(word)
    except UsageError as error:
        raise UsageError(f"{option.flags[-1]}: {error}") from None
    if option.flags == ("--only",):  # of apply: may be repeated
        before = values.get("only")
        value = [*before, value] if isinstance(before, list) else [value]
    values[option.key] = value


def _check(words: Words) -> None:
    verb, given = words.verb, len(words.operands)
    everything = ALL in verb.options and words.has("all")
    names = given - (verb.least - 1 if verb.least > 1 else 0)
    if everything and verb.takes_names and names > (1 if verb.name == "kill" else 0):
        raise UsageError(f"cannot {verb.name}: names and --all exclude each other")
    least = verb.least - 1 if everything else verb.least
    if given < least:
        raise UsageError(_too_few(verb))
    if verb.most is not None and given > verb.most:
        extra = words.operands[verb.most]
        raise UsageError(f"cannot {verb.name}: too many words: '{extra}' (usage: {usage(verb)})")
    if verb.name == "wait" and (given or everything) == ("change" in words.values):
        raise UsageError("cannot wait: needs names, or --change ID (one of them)")


def _too_few(verb: Verb) -> str:
    if verb.name == "reload":
        return (
            "cannot reload: no name"
            " ('reload NAME' tells a service to reload itself; 'apply' loads the file)"
        )
    if ALL in verb.options:
        return f"cannot {verb.name}: no name ({usage(verb)}; or --all)"
    return f"cannot {verb.name}: too few words (usage: {usage(verb)})"


# -- help -----------------------------------------------------------------------------------------


def usage(verb: Verb) -> str:
    """Give the verb's line of usage, options left out."""
    return f"pidfdctl {verb.name} {verb.operands}".rstrip()


def synopsis(option: Option) -> str:
    """Write an option as the help lists it: `-n, --lines N`."""
    flags = ", ".join(option.flags)
    value = "|".join(option.choices) or option.metavar
    return f"{flags} {value}" if value else flags


def help_of(verb: Verb) -> str:
    """Write the help of one verb."""
    also = f"also: {', '.join(verb.aliases)}\n" if verb.aliases else ""
    text = f"usage: {usage(verb)} [OPTION…]\n{also}\n{verb.help}\n"
    return text + "\n" + _listed(verb.options) + _listed(GLOBAL)


def help_of_all() -> str:
    """Write the help: verbs and the options they share."""
    rows = [(f"{verb.name} {verb.operands}".rstrip(), verb.help) for verb in verbs.VERBS]
    wide = max(len(left) for left, _ in rows)
    lines = "".join(f"  {left.ljust(wide)}  {right}\n" for left, right in rows)
    return (
        "usage: pidfdctl [OPTION…] [VERB] [ARG…]        without a verb: status\n\n"
        f"{lines}\nNAME is a service (worker: all its instances), worker@3, a glob ('web*'),\n"
        "@group, or --all.\n\n"
        f"{_listed(GLOBAL)}\n'pidfdctl VERB --help' tells more; pidfdctl(1) tells everything.\n"
    )


def _listed(options: Sequence[Option]) -> str:
    return "".join(f"  {synopsis(option).ljust(24)}  {option.help}\n" for option in options)
