"""Make what services write to, as their specs say."""

import os
from collections.abc import Callable
from typing import Any

from supervisord_pidfd.core.spec import LogFormat, LogSpec
from supervisord_pidfd.logger import journal, syslog
from supervisord_pidfd.logger.datagrams import Courier
from supervisord_pidfd.logger.files import FileSink
from supervisord_pidfd.logger.hub import Sinks
from supervisord_pidfd.logger.journal import JournalSink, Lookup
from supervisord_pidfd.logger.packing import Packer
from supervisord_pidfd.logger.render import Form, Inward
from supervisord_pidfd.logger.rotation import Rotation
from supervisord_pidfd.logger.sinks import Sink
from supervisord_pidfd.logger.stdout import PATH as OUTLET
from supervisord_pidfd.logger.stdout import STDOUT, Outlet, StdoutSink
from supervisord_pidfd.logger.syslog import SyslogSink

Say = Callable[[dict[str, Any]], None]
STREAMS = ("stdout", "stderr", "hook")


class Making:
    """Make sinks; those that all services share are made once."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet
        self._terminal = os.isatty(STDOUT)
        self.journal = Courier(journal.PATH)
        self.syslog = Courier(syslog.PATH)
        self.lookup = Lookup()
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
        shared = self._standard_output(spec) if "stdout" in spec.to else None
        for stream in STREAMS:
            path = spec.stderr_path if stream == "stderr" else spec.path
            if path in files:
                found[stream].append((path, files[path]))
            if shared is not None:
                found[stream].append((OUTLET, shared))
            if "journal" in spec.to:
                sink: Sink = JournalSink(self.journal, service, stream, self.lookup)
                found[stream].append((journal.PATH, sink))
            if "syslog" in spec.to:
                sink = SyslogSink(self.syslog, service, stream)
                found[stream].append((syslog.PATH, sink))
        return found

    def _standard_output(self, spec: LogSpec) -> Sink:
        suits = LogFormat.TEXT if self._terminal else LogFormat.JSON
        return StdoutSink(self._outlet, spec.format or suits)

    def _file(self, service: str, path: str, spec: LogSpec) -> Sink:
        def tell(event: str, fields: dict[str, Any]) -> None:
            self.say({"tell": event, "service": service, **fields})

        form: Form = spec.format or LogFormat.RAW
        if form is LogFormat.TEXT:  # it is read on other days too
            form = Inward.DATED
        packer = self._packers.setdefault(os.path.dirname(path), Packer())
        pack = packer.ask if spec.compress else None
        # 0: on some file system, which one will be known when the file is opened.
        return FileSink(path, form, Rotation.of(spec), device=0, tell=tell, pack=pack)


def directories_of(spec: LogSpec) -> tuple[str, ...]:
    """Name the directories in which a service's files are."""
    if "file" not in spec.to:
        return ()
    return tuple(sorted({os.path.dirname(p) for p in (spec.path, spec.stderr_path) if p}))
