"""The command `pidfdctl`: understand the words, ask the daemon, print, and say how it went."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, cast

from supervisord_pidfd.cli.args import help_of, help_of_all, parse, quoted
from supervisord_pidfd.cli.screen import Screen, escape, standard_screen
from supervisord_pidfd.cli.session import (
    DONE,
    FAILED,
    INTERRUPTED,
    INVALID,
    NOBODY_READS,
    UNREACHABLE,
    USAGE,
    Failure,
    Session,
)
from supervisord_pidfd.clock import SystemClock
from supervisord_pidfd.errors import NoAnswerError, ReplyError, UnreachableError, UsageError

HANDLERS = {
    "status": "status.status", "is-running": "status.is_running", "is-ready": "status.is_ready",
    "is-failed": "status.is_failed", "start": "changing.change", "stop": "changing.change",
    "restart": "changing.change", "reload": "changing.change", "signal": "changing.act",
    "kill": "changing.act", "freeze": "changing.act", "thaw": "changing.act",
    "reset": "changing.act", "wait": "changing.wait", "apply": "changing.apply",
    "shutdown": "changing.shutdown", "reexec": "changing.reexec", "health": "reading.health",
    "logs": "reading.logs", "events": "reading.events", "explain": "reading.explain",
    "history": "reading.history", "plan": "reading.plan", "show": "reading.show",
    "sd": "reading.discovery", "version": "reading.version", "deps": "deps.deps",
    "top": "top.top", "completion": "completion.completion",
}  # fmt: skip
"""Where each verb is carried out; only that module is loaded."""
WAITED_FOR = frozenset({"Start", "Stop", "Restart", "Reload", "Apply", "Shutdown"})
"""Methods whose work goes on when the client has gone."""


def program() -> NoReturn:
    """Be the program `pidfdctl`.

    Everything is written and closed when `main` returns; taking the interpreter apart piece by
    piece would be a tenth of what the user waits for.
    """
    os._exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    try:
        return _main(argv)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # `pidfdctl status | head -1`: as quiet as SIGPIPE's default would be
        _write_no_more()
        return NOBODY_READS


def _main(argv: Sequence[str]) -> int:
    try:
        words = parse(argv)
    except UsageError as error:
        failure = Failure(USAGE, "Usage", escape(str(error)))
        return _end(standard_screen(as_json="--json" in argv), failure)
    if words.has("help"):
        named = any(word in {words.verb.name, *words.verb.aliases} for word in argv)
        standard_screen().write(help_of(words.verb) if named else help_of_all())
        return DONE
    screen = standard_screen(
        as_json=words.has("json"), no_color=words.has("no_color"), quiet=words.has("quiet")
    )
    return run(Session(words, screen, SystemClock(), os.environ))


def run(session: Session) -> int:
    """Carry one command out, whatever the daemon answers."""
    words, screen = session.words, session.screen
    try:
        return _handler(words.verb.name)(session)
    except UsageError as error:
        failure = Failure(USAGE, "Usage", escape(str(error)))
    except UnreachableError as error:
        failure = session.unreachable(error)
    except NoAnswerError as error:
        failure = session.no_answer(error)
    except ReplyError as error:
        failure = session.refused(error)
        _tell_problems(error, failure, screen)
    except KeyboardInterrupt:
        screen.end_of_line()
        if words.verb.method not in WAITED_FOR:  # whoever watched has seen enough
            return INTERRUPTED
        failure = _interrupted(session)
    except BrokenPipeError:
        raise
    except OSError as error:  # a full disk below standard output, a working directory that is gone
        _write_no_more()
        screen.error(f"cannot {words.what}: {os.strerror(error.errno or 0).lower()}")
        return FAILED
    except Exception as error:  # noqa: BLE001 - the daemon's answer is not what this version reads
        why = escape(f"{type(error).__name__}: {error}")
        text = f"cannot {words.what}: the daemon's answer is not understood: {why}"
        failure = Failure(UNREACHABLE, "NoAnswer", f"{text} (pidfdctl version)")
    finally:
        session.close()
    code = _end(screen, failure)
    health = words.verb.name == "health" and code not in {USAGE, INTERRUPTED}
    return FAILED if health else code


def _end(screen: Screen, failure: Failure) -> int:
    if screen.as_json:
        screen.object(failure.as_json())
    screen.error(failure.text)
    return failure.code


def _write_no_more() -> None:
    """Let what could not be written be forgotten: it would be tried again at the end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _handler(verb: str) -> Callable[[Session], int]:
    module, _, name = HANDLERS[verb].partition(".")
    found = getattr(importlib.import_module(f"supervisord_pidfd.cli.{module}"), name)
    return cast("Callable[[Session], int]", found)


def _interrupted(session: Session) -> Failure:
    words = session.words
    what = quoted(words.operands) if words.operands else f"'{words.verb.name}'"
    text = f"interrupted: cannot confirm {escape(what)}; it goes on"
    if session.change is not None:
        text += f" (pidfdctl wait --change {session.change})"
    return Failure(INTERRUPTED, "Interrupted", text, {"change": session.change})


def _tell_problems(error: ReplyError, failure: Failure, screen: Screen) -> None:
    found = error.parameters.get("problems")
    if failure.code == INVALID and isinstance(found, list) and found:
        from supervisord_pidfd.cli.problems import render  # noqa: PLC0415 - only when invalid

        screen.warn(render(found).rstrip("\n"))
