"""What clients ask of the configuration: what an apply would do, and to do it."""

from typing import Any

from supervisord_pidfd.answers import Answers, no_such, refuse
from supervisord_pidfd.commands import CONFIG_INVALID, Call
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
from supervisord_pidfd.core.reload import PlanItem


class Deployment:
    """Answer Plan and Apply."""

    def __init__(self, configuring: Configuring, answers: Answers) -> None:
        self._configuring = configuring
        self._answers = answers

    def plan(self, call: Call) -> None:
        """Say what an apply of the daemon's file, or of another, would do."""
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
                call.error(CONFIG_INVALID, {"problems": list(problems)})
            case Refusal(reason, message):
                refuse(call, reason, message)
            case Unknown(name, suggestion):
                no_such(call, name, suggestion)
            case Planned(digest, items, problems):
                said = [item_record(item) for item in items]
                call.reply({"digest": digest, "items": said, "problems": list(problems)})
            case Applied(change, digest, problems):
                frame = {"change": change.ident, "digest": digest, "problems": list(problems)}
                self._answers.answer(call, change, frame)


def item_record(item: PlanItem) -> dict[str, Any]:
    """Describe one line of a plan as plain data."""
    return {
        "action": item.action,
        "service": item.service,
        "changes": [
            {"key": one.key, "old": one.old, "new": one.new, "file": one.file, "line": one.line}
            for one in item.changes
        ],
    }
