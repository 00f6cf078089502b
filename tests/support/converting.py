"""Convert a text as the verb would, and load the result as the daemon would."""

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from supervisord_pidfd.config import later
from supervisord_pidfd.convert.draft import LOST, Draft
from supervisord_pidfd.convert.main import CONVERTERS
from supervisord_pidfd.convert.source import read_text

FILES = {
    "supervisor": "/srv/app/supervisord.conf", "procfile": "/srv/app/Procfile",
    "systemd": "/srv/app/web.service",
}  # fmt: skip


class Converted(NamedTuple):
    """Hold what became of a text."""

    text: str
    data: dict[str, Any]
    remarks: list[str]
    lost: list[str]

    def __getitem__(self, name: Any) -> Any:
        """Return the table of a service."""
        return self.data["service"][name]


def convert(
    text: str, kind: str, file: str | Path = "", gate: later.Gate | None = None
) -> Converted:
    """Convert a text that is said to stand in a file."""
    draft = Draft(gate)
    CONVERTERS[kind](text, str(file or FILES[kind]), read_text, draft)
    out = draft.render(["Converted."])
    lost = [one.option.name for one in draft.remarks if one.kind == LOST]
    return Converted(out, tomllib.loads(out), list(map(str, draft.remarks)), lost)
