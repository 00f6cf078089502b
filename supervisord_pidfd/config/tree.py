"""All sources of a configuration as one tree, which knows where each part of it was written."""

import os
from collections.abc import Iterable
from typing import Any

from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import START, Place, Report, Source, twice

Table = dict[str, Any]


class Tree:
    """Hold the merged content of all sources.

    Files may share a section, but not a key; `--set` wins over all of them, the last one first.
    """

    def __init__(self, report: Report, files: list[Source], overrides: list[Source]) -> None:
        """Merge the sources; what two files define is an error at the second one."""
        self._sources = [*reversed(overrides), *files]
        self._services: dict[str, list[Source]] = {}
        self.data: Table = {}
        for source in files:
            self._add(report, source, self.data, source.data, ())
        for source in overrides:
            self.data = merged(self.data, source.data)
        for source in self._sources:
            names = source.data.get("service")
            for name in names if isinstance(names, dict) else ():
                self._services.setdefault(name, []).append(source)

    def _add(self, report: Report, source: Source, into: Table, new: Table, path: Path) -> None:
        for key, value in new.items():
            here = (*path, key)
            known = into.get(key)
            if known is None:
                into[key] = _copied(value)
            elif isinstance(known, dict) and isinstance(value, dict) and not _is_item(here):
                self._add(report, source, known, value, here)
            else:
                first = self.table(here)
                second = Place(source, source.places.table(here) or START)
                report.error(second, "duplicate", twice(here), key=here, see_also=(first,))

    def own_environment(self, name: str) -> Table:
        """Return the `environment` of a service without that of the defaults."""
        table = self.data["service"][name].get("environment")
        return table if isinstance(table, dict) else {}

    # -- places -----------------------------------------------------------------------------------

    def value(self, path: Path) -> Place:
        """Return where the value of this path is written, or the nearest that holds it."""
        of_service = path[0] == "service" and len(path) > 1
        for size in range(len(path), 1 if of_service else 0, -1):
            for option in _options(path[:size]):
                for source in self._holding(option):
                    span = source.places.value(option) or source.places.header(option)
                    if span:
                        return Place(source, span)
            for source in self._holding(path[:size]):
                span = source.places.key(path[:size])
                if span:
                    return Place(source, span)
        return Place(self._holding(path)[0], START) if of_service else self.start()

    def key(self, path: Path) -> Place:
        """Return where a key is named."""
        for option in _options(path):
            for source in self._holding(option):
                span = source.places.key(option)
                if span:
                    return Place(source, span)
        return self.value(path)

    def table(self, path: Path) -> Place:
        """Return where a table begins: its header, if it has one."""
        for source in self._holding(path):
            span = source.places.header(path)
            if span:
                return Place(source, span)
        for source in self._holding(path):
            span = source.places.table(path)
            if span:
                return Place(source, span)
        return self.value(path)

    def start(self) -> Place:
        """Return the beginning of the main file."""
        files = [source for source in self._sources if source.name != "--set"]
        return Place((files or self._sources)[0], START)

    def absolute(self, text: str, path: Path) -> str:
        """Make a path absolute: it is relative to the directory of the file that names it."""
        return os.path.normpath(os.path.join(self.value(path).source.directory, text))

    def _holding(self, path: Path) -> list[Source]:
        if path[0] == "service" and len(path) > 1:
            return self._services.get(str(path[1]), self._sources)
        return self._sources


def _options(path: Path) -> tuple[Path, ...]:
    """Return the path, and for a key of a service that of its default."""
    if len(path) > 2 and path[0] == "service":
        return path, ("defaults", *path[2:])
    return (path,)


def _is_item(path: Path) -> bool:
    return len(path) == 2 and path[0] in {"service", "group"}


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copied(member) for key, member in value.items()}
    return value


def merged(weak: Table, strong: Table) -> Table:
    """Merge two tables: tables key by key, everything else is replaced by the stronger."""
    result = dict(weak)
    for key, value in strong.items():
        below = result.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            result[key] = merged(below, value)
        else:
            result[key] = value
    return result


def without(table: Table, paths: Iterable[Path]) -> Table:
    """Return a table without the keys that these paths lead to; in a list, without all of it."""
    result: Table = _copied(table)
    for path in paths:
        holder, key = result, path[0]
        for part in path[1:]:
            below = holder.get(str(key))
            if not isinstance(below, dict) or part not in below:
                break
            holder, key = below, part
        holder.pop(str(key), None)
    return result
