"""What clients ask of the configuration: what an apply would do, and to do it."""

from collections.abc import Iterable
from typing import Any

from supervisord_pidfd.answers import Answers, no_such, refuse
from supervisord_pidfd.commands import CONFIG_INVALID, PERMISSION_DENIED, Call
from supervisord_pidfd.configuring import (
    Answer,
    Applied,
    Configuring,
    Invalid,
    Planned,
    Refusal,
    Unknown,
    Wish,
)
from supervisord_pidfd.core.reload import HIDDEN, PlanItem


class Deployment:
    """Answer Plan and Apply."""

    def __init__(self, configuring: Configuring, answers: Answers) -> None:
        self._configuring = configuring
        self._answers = answers

    def plan(self, call: Call) -> None:
        """Say what an apply of the daemon's file, or of another, would do.

        Who speaks for others (the gateway) may not have any file read.
        """
        if call.parameters["file"] is not None and not call.peer.full:
            call.error(PERMISSION_DENIED)
            return
        wish = Wish(
            call.peer.by,
            lambda answer: self._answer(call, answer),
            apply=False,
            file=call.parameters["file"],
        )
        call.on_gone(lambda: self._configuring.withdraw(wish))
        self._configuring.ask(wish)

    def apply(self, call: Call) -> None:
        """Go over to the file as it is now, as a whole or not at all."""
        given = call.parameters
        self._configuring.ask(
            Wish(
                call.peer.by,
                lambda answer: self._answer(call, answer),
                only=None if given["only"] is None else tuple(given["only"]),
                restart=not given["no_restart"],
                expect=given["expect"],
            )
        )

    def _answer(self, call: Call, answer: Answer) -> None:
        match answer:
            case Invalid(problems):
                call.error(CONFIG_INVALID, {"problems": _shown(call, problems)})
            case Refusal(reason, message):
                refuse(call, reason, message)
            case Unknown(name, suggestion):
                no_such(call, name, suggestion)
            case Planned(digest, items, problems):
                said = [item_record(item, hide=not call.peer.full) for item in items]
                shown = _shown(call, problems)
                call.reply({"digest": digest, "items": said, "problems": shown})
            case Applied(change, digest, problems):
                shown = _shown(call, problems)
                frame = {"change": change.ident, "digest": digest, "problems": shown}
                self._answers.answer(call, change, frame)


def _shown(call: Call, problems: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out lines of files, which may hold values of variables, for who may not see them."""
    if call.peer.full:
        return list(problems)
    return [{**problem, "source": None} for problem in problems]


def item_record(item: PlanItem, *, hide: bool) -> dict[str, Any]:
    """Describe one line of a plan as plain data, if need be without values of variables."""
    return {
        "action": item.action,
        "service": item.service,
        "changes": [
            {
                "key": one.key,
                "old": _hidden(one.key, one.old) if hide else one.old,
                "new": _hidden(one.key, one.new) if hide else one.new,
                "file": one.file,
                "line": one.line,
            }
            for one in item.changes
        ],
    }


def _hidden(key: str, text: str | None) -> str | None:
    return HIDDEN if text is not None and key.partition(".")[0] == "environment" else text
