"""Make what services write to, as their specs say."""

import os
from collections.abc import Callable
from typing import Any

from supervisord_pidfd.core.spec import LogFormat, LogSpec
from supervisord_pidfd.logger.files import FileSink
from supervisord_pidfd.logger.hub import Sinks
from supervisord_pidfd.logger.packing import Packer
from supervisord_pidfd.logger.rotation import Rotation
from supervisord_pidfd.logger.sinks import Sink

Say = Callable[[dict[str, Any]], None]
STREAMS = ("stdout", "stderr", "hook")


class Making:
    """Make sinks; those that all services share are made once."""

    def __init__(self) -> None:
        self._packers: dict[str, Packer] = {}
        self.say: Say = lambda _message: None

    def sinks_of(self, service: str, spec: LogSpec) -> Sinks:
        """Make the sinks of a service, for each stream."""
        files = {
            path: self._file(service, path, spec)
            for path in (spec.path, spec.stderr_path)
            if "file" in spec.to and path
        }
        found: dict[str, list[tuple[str, Sink]]] = {stream: [] for stream in STREAMS}
        for stream in STREAMS:
            path = spec.stderr_path if stream == "stderr" else spec.path
            if path in files:
                found[stream].append((path, files[path]))
        return found

    def _file(self, service: str, path: str, spec: LogSpec) -> Sink:
        def tell(event: str, fields: dict[str, str]) -> None:
            self.say({"tell": event, "service": service, **fields})

        form = spec.format or LogFormat.RAW
        packer = self._packers.setdefault(os.path.dirname(path), Packer())
        pack = packer.ask if spec.compress else None
        # 0: on some file system, which one will be known when the file is opened.
        return FileSink(path, form, Rotation.of(spec), device=0, tell=tell, pack=pack)


def directories_of(spec: LogSpec) -> tuple[str, ...]:
    """Name the directories in which a service's files are."""
    if "file" not in spec.to:
        return ()
    return tuple(sorted({os.path.dirname(p) for p in (spec.path, spec.stderr_path) if p}))
