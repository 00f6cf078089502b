"""The variables of one instance: its environment, and the `${}` that they fill in."""

import os
from collections.abc import Callable, Mapping
from typing import NamedTuple

from supervisord_pidfd.config import environment, model
from supervisord_pidfd.config.environment import Content, Secret, UnreadableError
from supervisord_pidfd.config.fields import CommandLine
from supervisord_pidfd.config.host import passes
from supervisord_pidfd.config.interpolate import RingError, UndefinedError, Variables, fill_in
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import MASK, Report, is_sensitive
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.core.spec import StartFault

STAGE = "environment"


class Store:
    """Read each environment file and each secret once for all services.

    `inherited` is the daemon's own environment.
    """

    def __init__(self, read: Callable[[str], Content]) -> None:
        """Read with this function."""
        self._read = read
        self.inherited = dict(os.environ)
        self._variables: dict[str, dict[str, str] | UnreadableError] = {}
        self._secrets: dict[str, Secret | UnreadableError] = {}

    def variables(self, file: str) -> dict[str, str] | UnreadableError:
        """Return what an environment file defines, or why it cannot be read."""
        if file not in self._variables:
            try:
                self._variables[file] = environment.variables_of(self._read(file))
            except UnreadableError as error:
                self._variables[file] = error
        return self._variables[file]

    def secret(self, file: str) -> Secret | UnreadableError:
        """Return what a file holds, or why it cannot be read."""
        if file not in self._secrets:
            try:
                self._secrets[file] = environment.secret_of(self._read(file))
            except UnreadableError as error:
                self._secrets[file] = error
        return self._secrets[file]


class Where(NamedTuple):
    """Hold where a service stands: its path in the tree, and where its problems go."""

    path: Path
    tree: Tree
    report: Report

    def warn(self, inside: Path, code: str, message: str) -> None:
        """Add a warning about a key of the service."""
        place = self.tree.value((*self.path, *inside))
        self.report.warning(place, code, message, key=(*self.path, *inside))

    def wrong(self, inside: Path, message: str, hint: str | None = None) -> None:
        """Add an error about the value of a key of the service."""
        full = (*self.path, *inside)
        self.report.error(self.tree.value(full), "bad-value", message, key=full, hint=hint)

    def absolute(self, text: str, inside: Path) -> str:
        """Make the path that a key of the service names absolute."""
        return self.tree.absolute(text, (*self.path, *inside))


def _masked(variables: Mapping[str, str]) -> dict[str, str]:
    """Hide the values of variables whose name says that they are secret."""
    return {name: MASK if is_sensitive((name,)) else text for name, text in variables.items()}


class Filling:
    """Fill in the texts of one instance, and build its environment.

    Files that cannot be read leave a fault: the instance cannot start, and what only they define
    is no error here. `defaults` are weaker than the files, the service's own `environment` is
    stronger.
    """

    def __init__(
        self, where: Where, service: model.Service, own: dict[str, str], store: Store
    ) -> None:
        """Read the environment files of the service."""
        self._where = where
        self._service = service
        self._store = store
        self.faults: list[StartFault] = []
        written = service.environment or {}
        inherited = store.inherited
        self._sources: tuple[Mapping[str, str], ...] = (own, written, {}, inherited)
        self._variables = Variables(*self._sources)
        self._masked: Variables | None = None
        self._files: dict[str, str] = {}
        for index, entry in enumerate(service.environment_file or ()):
            self._files.update(self._file(index, entry))
        if self._files:
            table = where.tree.own_environment(str(where.path[1]))
            written = {
                key: text
                for key, text in written.items()
                if key in table or key not in self._files
            }
            self._sources = (own, written, self._files, inherited)
            self._variables = Variables(*self._sources)
        self._written = written

    def _file(self, index: int, entry: str) -> dict[str, str]:
        inside = ("environment_file", index)
        file = self._where.absolute(self.text(inside, entry.removeprefix("-")), inside)
        found = self._store.variables(file)
        if isinstance(found, dict):
            return found
        if not (entry.startswith("-") and found.error == "ENOENT"):
            self.faults.append(StartFault(STAGE, file, found.error))
            message = f"environment_file: cannot read '{file}': {found.message}"
            self._where.warn(inside, "unreadable", message)
        return {}

    def text(self, inside: Path, text: str) -> str:
        """Fill in the `${}` of one text; what is undefined is reported, and nothing remains."""
        return self.known(inside, text) or ""

    def known(self, inside: Path, text: str) -> str | None:
        """Fill in the `${}` of one text; None if something is undefined, which is reported."""
        return self._reported(inside, lambda: fill_in(text, self._variables.lookup))

    def shown(self, path: Path, text: str) -> str:
        """Fill in a text for people: what only a secret knows is masked; an error leaves it."""
        if self._masked is None:
            self._masked = Variables(*map(_masked, self._sources))
        try:
            if path[0] == "environment" and path[-1] in self._written:
                return self._masked.written(str(path[-1]))
            return fill_in(text, self._masked.lookup)
        except ValueError:
            return text

    def words(self, inside: Path, line: CommandLine) -> tuple[str, ...]:
        """Fill in the words of a command."""
        return tuple(
            self.text(inside if line.text is not None else (*inside, index), word)
            for index, word in enumerate(line.words)
        )

    def _reported(self, inside: Path, fill: Callable[[], str]) -> str | None:
        where = (*self._where.path, *inside)
        shown = ".".join(part for part in inside if isinstance(part, str))
        try:
            return fill()
        except UndefinedError as error:
            if not self.faults:  # else a file that cannot be read may define it
                names = ", ".join(f"${{{name}}}" for name in error.names)
                verb = "is" if len(error.names) == 1 else "are"
                self._where.report.error(
                    self._where.tree.value(where), "undefined-variable",
                    f"{shown}: {names} {verb} not defined", key=where,
                    hint="write ${NAME:-default}, or $$ for a dollar sign",
                )  # fmt: skip
        except ValueError as error:
            place = self._where.tree.value(where)
            code = "cycle" if isinstance(error, RingError) else "too-large"
            self._where.report.error(place, code, f"{shown}: {error}", key=where)
        return None

    def environment(self) -> dict[str, str]:
        """Return the variables of the instance beside what it inherits, secrets included."""
        variables = dict(self._files)
        for key in self._written:
            value = self._reported(
                ("environment", key),
                lambda key=key: self._variables.written(key),  # type: ignore[misc]
            )
            if value is not None:
                variables[key] = value
        for key, reference in (self._service.secrets or {}).items():
            secret = self._secret(key, reference)
            if isinstance(secret, Secret):
                variables[key] = secret.value
            else:
                self.faults.append(StartFault(STAGE, f"secret {key}", secret.error))
                message = f"secrets.{key}: cannot read it: {secret.message}"
                self._where.warn(("secrets", key), "unreadable", message)
        unset = self._service.unset_environment or ()
        return {key: text for key, text in variables.items() if not passes(key, unset)}

    def _secret(self, key: str, reference: str) -> Secret | UnreadableError:
        kind, _, rest = reference.partition(":")
        inside = ("secrets", key)
        if kind == "credential":
            directory = os.environ.get("CREDENTIALS_DIRECTORY")
            if not directory:
                return UnreadableError("ENOENT", "CREDENTIALS_DIRECTORY is not set")
            return self._store.secret(os.path.join(directory, rest))
        secret = self._store.secret(self._where.absolute(rest, inside))
        if isinstance(secret, Secret) and secret.world_readable:
            message = f"secrets.{key}: everybody on this host can read its file"
            self._where.warn(inside, "world-readable-secret", message)
        return secret
