"""Where the two streams of a program go, from Supervisor's words to `log.*`."""

import os
from collections.abc import Callable

from supervisord_pidfd.convert.draft import Table
from supervisord_pidfd.convert.source import YES_NO, Option, number, one_of
from supervisord_pidfd.convert.text import NotConvertibleError

_KIB = {"kb": "KiB", "mb": "MiB", "gb": "GiB"}


class Output:
    """Translate where the two streams go; we keep both in one file unless told apart."""

    def __init__(
        self, table: Table, left: dict[str, Option], filled: Callable[[Option], str]
    ) -> None:
        self._table = table
        self._left = left
        self._filled = filled

    def write(self) -> None:
        """Write `log.*`."""
        for name, silent in (("serverurl", "auto"), ("stdout_capture_maxbytes", "0"),
                             ("stderr_capture_maxbytes", "0")):  # fmt: skip
            option = self._left.get(name)
            if option is not None and option.value.strip().lower() == silent:
                del self._left[name]
        together = self._flag("redirect_stderr")
        out = self._left.pop("stdout_logfile", None)
        errors = self._left.pop("stderr_logfile", None)
        names = ("stdout_syslog", "stderr_syslog")
        asked = [(self._left.get(name), self._flag(name)) for name in names]
        syslog = [option for option, wanted in asked if option and wanted]
        kept, *files = self._streams(out, None if together else errors)
        if syslog:
            kept = [*(word for word in kept if word not in {"null", "syslog"}), "syslog"]
        origin = out or errors or (syslog[0] if syslog else None)
        if kept and origin:
            self._table.set("log.to", kept, origin)
        if "file" in kept:
            self._paths(*files)
        self._rotation(in_file="file" in kept)

    def _streams(
        self, out: Option | None, errors: Option | None
    ) -> tuple[list[str], Option | None, Option | None]:
        """Return the sinks, and what names the files of both streams."""
        kind, other = self._kind(out), self._kind(errors)
        apart = "standard error goes where standard output goes"
        if out is None:
            if errors is not None and other != "file":
                self._table.lost(errors, apart)
                errors = None
            kind = "file" if other == "file" else ""
        elif errors is not None and other != kind:
            if kind == "null":
                self._table.lost(out, "both streams are kept together")
                out, errors, kind = errors, None, other
            else:
                self._table.lost(errors, apart)
                errors = None
        if kind == "stdout":
            self._table.usual("log.format", "raw", "")
        return [kind] if kind else [], out, errors

    def _kind(self, option: Option | None) -> str:
        """Return the sink that a file name means."""
        value = option.value.strip().lower() if option is not None else ""
        if value in {"none", "off"}:
            return "null"
        if value in {"/dev/stdout", "/dev/stderr", "/dev/fd/1", "/dev/fd/2", "/proc/self/fd/1",
                     "/proc/self/fd/2"}:  # fmt: skip
            return "stdout"
        if value == "/dev/null":
            return "null"
        if value == "syslog":
            return "syslog"
        return "file" if value else ""

    def _paths(self, out: Option | None, errors: Option | None) -> None:
        for key, option in (("log.path", out), ("log.stderr_path", errors)):
            if option is None or option.value.strip().lower() == "auto":
                continue
            try:
                path = os.path.expanduser(self._filled(option))
            except NotConvertibleError as error:
                self._table.lost(option, str(error))
                continue
            if not path.startswith(("/", "$")):
                self._table.note(option, "relative to the directory of this file")
            self._table.set(key, path, option)

    def _rotation(self, *, in_file: bool) -> None:
        for name, key in (("maxbytes", "log.rotate_size"), ("backups", "log.rotate_keep")):
            both = [self._left.pop(f"{stream}_logfile_{name}", None)
                    for stream in ("stdout", "stderr")]  # fmt: skip
            first = both[0] or both[1]
            if first is None:
                continue
            if both[0] and both[1] and both[0].value.strip() != both[1].value.strip():
                self._table.lost(both[1], "both files are rotated alike")
            value = size(first) if name == "maxbytes" else number(first.value)
            if value is None:
                self._table.lost(first, "not a number")
            elif in_file or value not in {0, "0"}:
                self._table.set(key, value, first)

    def _flag(self, name: str) -> bool:
        option = self._left.pop(name, None)
        found = one_of(option.value, YES_NO) if option is not None else False
        if option is not None and found is None:
            self._table.lost(option, "neither true nor false")
        return bool(found)


def size(option: Option) -> str | int | None:
    """Return a size as we write it; Supervisor's `MB` is 1024 times 1024 bytes."""
    text = option.value.strip().lower()
    count = number(text[:-2] if text[-2:] in _KIB else text, 0, 2**50)
    if count is None:
        return None
    return f"{count}{_KIB[text[-2:]]}" if text[-2:] in _KIB else count
