"""Validated tables to specs: `${}`, environment, accounts, programs; one spec per instance."""

import math
import os
import re
import shlex
from typing import TYPE_CHECKING, Any, NamedTuple

from supervisord_pidfd.config import environment, host, model, paths
from supervisord_pidfd.config.environment import UnreadableError
from supervisord_pidfd.config.fields import CommandLine, End
from supervisord_pidfd.config.interpolate import UndefinedError, Variables, fill_in
from supervisord_pidfd.config.positions import Path
from supervisord_pidfd.config.sources import Report
from supervisord_pidfd.config.tree import Tree
from supervisord_pidfd.config.units import format_duration
from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    Identity,
    LimitAction,
    MetricsSpec,
    Output,
    ResourceLimit,
    RestartPolicy,
    Scope,
    ServiceSpec,
    ServiceType,
    StartFault,
    StartLimitSpec,
    StopSpec,
    StopStep,
    SupervisorSpec,
)

if TYPE_CHECKING:
    from supervisord_pidfd.config.child import Request

GATEWAY_USER = "supervisord-pidfd"
GATEWAY_UID = 65532
NOBODY = 65534
SHUTDOWN_TIMEOUT = 80.0
SHUTDOWN_TIMEOUT_PID1 = 8.0

_SHELL_WORDS = frozenset({"|", "||", "|&", "&&", "&", ";", "<", ">", ">>", "<<"})
_SHELL_START = re.compile(r"[0-9]?(?:<|>)|\$\(|`")


# -- the daemon -----------------------------------------------------------------------------------


def supervisor_spec(sections: dict[str, Any], tree: Tree, request: "Request") -> SupervisorSpec:
    """Build the settings of the daemon and of its gateway."""
    daemon: model.Supervisor = sections["supervisor"]
    metrics: model.Metrics = sections["metrics"]
    web: model.Web = sections["web"]
    runtime_dir = daemon.runtime_dir
    if runtime_dir is not None:
        runtime_dir = _absolute(runtime_dir, tree, ("supervisor", "runtime_dir"))
    listen = metrics.listen
    if listen is not None:
        base = tree.value(("metrics", "listen")).source.directory
        listen = tuple(
            f"unix:{os.path.join(base, address[5:])}" if address.startswith("unix:") else address
            for address in listen
        )
    return SupervisorSpec(
        **_given(
            runtime_dir=runtime_dir, reaper=daemon.reaper, subreaper=daemon.subreaper,
            shutdown_timeout=daemon.shutdown_timeout, exit_when_idle=daemon.exit_when_idle,
            start_concurrency=daemon.start_concurrency, log_level=daemon.log.level,
            log_format=daemon.log.format,
            signals=tuple(sorted((daemon.signals or {}).items())),
            metrics=MetricsSpec(
                **_given(
                    listen=listen, include=metrics.include, exclude=metrics.exclude,
                    phases=metrics.phases, resources=metrics.resources,
                    sample_every=metrics.sample_every, user=web.user,
                )
            ),
        )
    )  # fmt: skip


def _given(**members: Any) -> dict[str, Any]:
    """Leave out what was not written, so that the spec's own default holds."""
    return {name: value for name, value in members.items() if value is not None}


def _absolute(text: str, tree: Tree, path: Path) -> str:
    """Make a path absolute: it is relative to the directory of the file that names it."""
    return os.path.normpath(os.path.join(tree.value(path).source.directory, text))


# -- services -------------------------------------------------------------------------------------


class _Surroundings(NamedTuple):
    """Hold what one spec is built in: its place in the tree, and its names."""

    path: Path
    name: str
    variables: Variables
    files: dict[str, str]
    may_lack: bool


class Resolver:
    """Build specs; look up each account, program and file of this host once."""

    def __init__(
        self, request: "Request", tree: Tree, report: Report, sections: dict[str, Any],
        groups: dict[str, str],
    ) -> None:  # fmt: skip
        """Resolve for the daemon of this request."""
        self._request = request
        self._tree = tree
        self._report = report
        self._groups = groups
        self._accounts = host.Accounts()
        self._files = host.Files(host.read_mounts(), request.start_dir)
        self._inherited = dict(os.environ)
        self._own = self._directories(sections["supervisor"])
        budget = sections["supervisor"].shutdown_timeout
        default = SHUTDOWN_TIMEOUT_PID1 if request.pid1 else SHUTDOWN_TIMEOUT
        self._budget = default if budget is None else budget
        self._variables_of: dict[str, dict[str, str] | UnreadableError] = {}
        self._secrets_of: dict[str, environment.Secret | UnreadableError] = {}

    def _directories(self, daemon: model.Supervisor) -> dict[str, str]:
        request = self._request
        log_dir = request.log_dir or paths.default_log_dir(request.uid, self._inherited)
        runtime_dir = request.runtime_dir or paths.default_runtime_dir(
            request.uid, self._inherited
        )
        if daemon.log_dir:
            log_dir = _absolute(daemon.log_dir, self._tree, ("supervisor", "log_dir"))
        if daemon.runtime_dir:
            runtime_dir = _absolute(daemon.runtime_dir, self._tree, ("supervisor", "runtime_dir"))
        own = {"config.dir": self._tree.start().source.directory, "log.dir": log_dir}
        if runtime_dir:
            own["runtime.dir"] = runtime_dir
        return own

    def gateway(self, supervisor: SupervisorSpec) -> SupervisorSpec:
        """Look up whom the gateway runs as; root only, and never a user that may be nobody."""
        metrics = supervisor.metrics
        if self._request.uid != 0:
            return supervisor
        identity = Identity(GATEWAY_UID, GATEWAY_UID)
        path = ("web", "user")
        try:
            identity = self._accounts.identity(metrics.user or GATEWAY_USER, None, None)
        except host.NoSuchAccountError as error:
            if metrics.user:
                message = f"user: no such {error}; the gateway runs as uid {GATEWAY_UID}"
                self._report.warning(self._tree.value(path), "no-such-user", message, key=path)
        if identity.uid == NOBODY:
            message = f"user: uid {NOBODY} is shared by everything without an account"
            self._report.error(self._tree.value(path), "bad-value", message, key=path)
        return supervisor._replace(metrics=metrics._replace(identity=identity))

    def specs(self, name: str, service: model.Service, *, broken: bool) -> list[ServiceSpec]:
        """Build the specs of a service, one for each instance.

        `broken` says that its command is a stand-in for one that was refused.
        """
        self._check(name, service)
        if service.instances is None:
            return [self._spec(name, "", service, broken=broken)]
        return [self._spec(name, copy, service, broken=broken) for copy in service.instances]

    def _check(self, name: str, service: model.Service) -> None:
        """Look for conflicts inside a service, and for likely slips."""
        path = ("service", name)
        report, tree = self._report, self._tree
        if service.ready.delay is not None and service.type == "oneshot":
            where = (*path, "ready", "delay")
            message = "ready.delay: a oneshot is ready when it has ended"
            report.error(tree.value(where), "conflict", message, key=where)
        policy = service.scheduling.policy
        if service.scheduling.priority is not None and policy not in {"fifo", "rr"}:
            where = (*path, "scheduling", "priority")
            message = "scheduling.priority: only with scheduling.policy fifo or rr"
            report.error(tree.value(where), "conflict", message, key=where)
        if policy in {"fifo", "rr"} and service.scheduling.priority is None:
            where = (*path, "scheduling", "policy")
            message = f"scheduling.policy: '{policy}' needs scheduling.priority"
            report.error(tree.value(where), "conflict", message, key=where)
        word = _shell_word(service.command)
        if word:
            where = (*path, "command")
            message = f"command: '{word}' is passed on as an argument, no shell runs"
            hint = 'write ["sh", "-c", "…"] for a shell'
            report.warning(tree.value(where), "shell-syntax", message, key=where, hint=hint)
        self._check_stop(path, service)
        if self._request.uid != 0:
            self._check_root(path, service)

    def _check_stop(self, path: Path, service: model.Service) -> None:
        if service.stop.sequence is not None:
            where = (*path, "stop", "sequence")
            total = math.fsum(step.timeout for step in service.stop.sequence)
        elif service.stop_timeout is not None:
            where, total = (*path, "stop_timeout"), service.stop_timeout
        else:
            return
        if total > self._budget:
            shown = ".".join(map(str, where[2:]))
            message = (
                f"{shown}: {format_duration(total)} is longer than shutdown_timeout"
                f" ({format_duration(self._budget)})"
            )
            self._report.warning(self._tree.value(where), "stop-budget", message, key=where)

    def _check_root(self, path: Path, service: model.Service) -> None:
        """Warn of what only root may do."""
        wishes: list[tuple[Path, bool]] = [
            (("supplementary_groups",), service.supplementary_groups is not None),
            (("scheduling", "nice"), (service.scheduling.nice or 0) < 0),
            (("scheduling", "oom_score_adjust"), (service.scheduling.oom_score_adjust or 0) < 0),
            (("scheduling", "policy"), service.scheduling.policy in {"fifo", "rr"}),
        ]
        for inside, wished in wishes:
            if wished:
                where = (*path, *inside)
                message = f"{'.'.join(map(str, inside))}: needs root"
                self._report.warning(self._tree.value(where), "needs-root", message, key=where)

    # -- one spec ---------------------------------------------------------------------------------

    def _spec(
        self, base: str, instance: str, service: model.Service, *, broken: bool
    ) -> ServiceSpec:
        name = f"{base}@{instance}" if service.instances else base
        path = ("service", base)
        group = self._groups.get(name) or self._groups.get(base) or base
        own = {**self._own, "service.name": name, "service.group": group}
        if service.instances:
            own["service.instance"] = instance
        faults: list[StartFault] = []
        around = self._surroundings(path, name, own, service, faults)
        variables = self._environment(around, service, faults)
        directory = self._directory(around, service)
        argv = self._argv(around, service.command)
        identity = self._identity(around, service, faults)
        found = host.Found(None, fast=False)
        if not broken and argv and argv[0]:
            found = self._program(path, argv[0], directory, service, variables)
        stdin = self._stdin(path, service)
        if stdin is not None and stdin.startswith("file:"):
            found = found._replace(fast=found.fast and self._files.lies_local(stdin[5:]))
        oneshot = service.type == "oneshot"
        scheduling = service.scheduling
        place = self._tree.table(path)
        faults.sort(key=lambda fault: fault.stage != "resolve")  # the order of the stages
        return ServiceSpec(
            name=name,
            argv=argv,
            program=found.program,
            fast=found.fast,
            group=group,
            type=ServiceType.ONESHOT if oneshot else ServiceType.SIMPLE,
            instance=instance,
            environment=tuple(variables.items()),
            stop=_stop(service),
            success=_success(service, oneshot=oneshot),
            restart_prevent=_ends(service.restart_prevent),
            restart_force=_ends(service.restart_force),
            backoff=BackoffSpec(**_members(service.backoff)),
            limits=tuple(
                ResourceLimit(limit, pair.soft, pair.hard)
                for limit, pair in sorted((service.limits or {}).items())
            ),
            foreground=self._request.file is None
            and bool(self._request.command)
            and base == "main",
            fault=faults[0] if faults else None,
            origin=f"{place.source.name}:{place.span.line}",
            start_limit=_start_limit(service.start_limit),
            **_given(
                description=service.description,
                autostart=service.autostart,
                restart=_restart(service, oneshot=oneshot),
                directory=directory,
                umask=service.umask,
                identity=identity,
                inherit=service.inherit_environment,
                unset=service.unset_environment,
                stdin=stdin,
                output=Output(service.log.to) if service.log.to else None,
                start_timeout=_start_timeout(service, oneshot=oneshot),
                runtime_max=service.runtime_max,
                ready_delay=service.ready.delay,
                critical=service.critical,
                main=service.main,
                nice=scheduling.nice,
                oom_score_adjust=scheduling.oom_score_adjust,
                cpu_affinity=scheduling.cpu_affinity,
                sched_policy=scheduling.policy,
                sched_priority=scheduling.priority,
                no_new_privileges=service.sandbox.no_new_privileges,
                parent_death_signal=service.parent_death_signal,
            ),
        )

    # -- ${} --------------------------------------------------------------------------------------

    def _surroundings(
        self, path: Path, name: str, own: dict[str, str], service: model.Service,
        faults: list[StartFault],
    ) -> _Surroundings:  # fmt: skip
        """Read the environment files, so that `${}` can name what they hold."""
        written = service.environment or {}
        bare = _Surroundings(path, name, Variables(own, written, {}, self._inherited), {}, False)
        variables: dict[str, str] = {}
        lacking = False
        for index, entry in enumerate(service.environment_file or ()):
            where = (*path, "environment_file", index)
            optional = entry.startswith("-")
            text = self._filled(bare, where, entry.removeprefix("-"))
            file = _absolute(text, self._tree, where)
            found = self._read_variables(file)
            if isinstance(found, dict):
                variables.update(found)
            elif not (optional and found.error == "ENOENT"):
                lacking = True
                faults.append(StartFault("environment", file, found.error))
                message = f"environment_file: cannot read '{file}': {found.message}"
                self._report.warning(self._tree.value(where), "unreadable", message, key=where)
        if variables:
            own_table = self._tree.data["service"][path[1]].get("environment", {})
            written = {
                key: text
                for key, text in written.items()
                if key in own_table or key not in variables
            }
        filled = Variables(own, written, variables, self._inherited)
        return _Surroundings(path, name, filled, variables, lacking)

    def _filled(self, around: _Surroundings, where: Path, text: str) -> str:
        """Fill in the `${}` of one text; what is undefined is reported, and stays empty."""
        try:
            return fill_in(text, around.variables.lookup)
        except UndefinedError as error:
            self._undefined(around, where, error)
        except ValueError as error:
            self._report.error(self._tree.value(where), "too-large", _worded(where, error))
        return ""

    def _undefined(self, around: _Surroundings, where: Path, error: UndefinedError) -> None:
        # A file that cannot be read may define it: that warning says what is wrong.
        if around.may_lack:
            return
        names = ", ".join(f"${{{name}}}" for name in error.names)
        verb = "is" if len(error.names) == 1 else "are"
        self._report.error(
            self._tree.value(where), "undefined-variable",
            _worded(where, f"{names} {verb} not defined"), key=where,
            hint="write ${NAME:-default}, or $$ for a dollar sign",
        )  # fmt: skip

    def _argv(self, around: _Surroundings, command: CommandLine) -> tuple[str, ...]:
        if around.path[1] == "main" and command.words == self._request.command:
            return command.words  # from the command line: taken as it is
        where = (*around.path, "command")
        single = command.text is not None
        argv = tuple(
            self._filled(around, where if single else (*where, index), word)
            for index, word in enumerate(command.words)
        )
        if any("\0" in word for word in argv):  # cannot come of TOML, but of nothing else either
            return ()
        return argv

    def _directory(self, around: _Surroundings, service: model.Service) -> str | None:
        if service.directory is None:
            return None
        where = (*around.path, "directory")
        text = self._filled(around, where, service.directory)
        if not text:
            return None
        directory = _absolute(text, self._tree, where)
        if self._files.is_directory(directory) is False:
            message = f"directory: no such directory: '{directory}'"
            place = self._tree.value(where)
            self._report.warning(place, "no-such-directory", message, key=where)
        return directory

    # -- environment ------------------------------------------------------------------------------

    def _environment(
        self, around: _Surroundings, service: model.Service, faults: list[StartFault]
    ) -> dict[str, str]:
        """Return the variables a service gets beside what it inherits, secrets included."""
        variables = dict(around.files)
        written = service.environment or {}
        own_table = self._tree.data["service"].get(around.path[1], {}).get("environment", {})
        for key in written:
            if key in variables and key not in own_table:
                continue  # from [defaults], which is weaker than the files
            where = (*around.path, "environment", key)
            try:
                variables[key] = around.variables.written(key)
            except UndefinedError as error:
                self._undefined(around, where, error)
            except ValueError as error:
                self._report.error(self._tree.value(where), "too-large", _worded(where, error))
        for key, reference in (service.secrets or {}).items():
            where = (*around.path, "secrets", key)
            secret = self._secret(where, reference)
            if isinstance(secret, environment.Secret):
                variables[key] = secret.value
            else:
                subject = f"secret {key}"
                faults.append(StartFault("environment", subject, secret.error))
                message = f"secrets.{key}: cannot read it: {secret.message}"
                self._report.warning(self._tree.value(where), "unreadable", message, key=where)
        unset = service.unset_environment or ()
        return {key: text for key, text in variables.items() if not host.passes(key, unset)}

    def _read_variables(self, file: str) -> dict[str, str] | UnreadableError:
        if file not in self._variables_of:
            try:
                self._variables_of[file] = environment.read_variables(file)
            except UnreadableError as error:
                self._variables_of[file] = error
        return self._variables_of[file]

    def _secret(self, where: Path, reference: str) -> environment.Secret | UnreadableError:
        kind, _, rest = reference.partition(":")
        if kind == "file":
            file = _absolute(rest, self._tree, where)
        else:
            directory = self._inherited.get("CREDENTIALS_DIRECTORY")
            if not directory:
                return UnreadableError("ENOENT", "CREDENTIALS_DIRECTORY is not set")
            file = os.path.join(directory, rest)
        if file not in self._secrets_of:
            try:
                self._secrets_of[file] = environment.read_secret(file)
            except UnreadableError as error:
                self._secrets_of[file] = error
        secret = self._secrets_of[file]
        if isinstance(secret, environment.Secret) and secret.world_readable:
            message = f"secrets.{where[-1]}: everybody on this host can read its file"
            place = self._tree.value(where)
            self._report.warning(place, "world-readable-secret", message, key=where)
        return secret

    # -- facts of this host -----------------------------------------------------------------------

    def _identity(
        self, around: _Surroundings, service: model.Service, faults: list[StartFault]
    ) -> Identity | None:
        user, group, others = service.user, service.group, service.supplementary_groups
        if user is None and group is None and others is None:
            return None
        if user is not None:
            user = self._filled(around, (*around.path, "user"), user)
        if group is not None:
            group = self._filled(around, (*around.path, "group"), group)
        if user == "" or group == "":
            return None  # an undefined name, told already
        try:
            identity = self._accounts.identity(user, group, others)
        except host.NoSuchAccountError as error:
            subject = str(error)
            faults.append(StartFault("resolve", subject, "ENOENT"))
            key = "user" if subject.startswith("user") else "group"
            if key == "group" and subject != f"group '{group}'":
                key = "supplementary_groups"
            where = (*around.path, key)
            message = f"{key}: no such {subject}"
            self._report.warning(self._tree.value(where), "no-such-user", message, key=where)
            return None
        if self._request.uid != 0:
            if identity.uid == self._request.uid and group is None and others is None:
                return None  # it is ourselves
            where = (*around.path, "group" if user is None else "user")
            message = f"{where[-1]}: needs root"
            self._report.warning(self._tree.value(where), "needs-root", message, key=where)
        return identity

    def _program(
        self, path: Path, name: str, directory: str | None, service: model.Service,
        variables: dict[str, str],
    ) -> host.Found:  # fmt: skip
        search = variables.get("PATH")
        if search is None:
            globs = service.inherit_environment
            inherits = globs is None or host.passes("PATH", globs)
            if inherits and not host.passes("PATH", service.unset_environment or ()):
                search = self._inherited.get("PATH")
        found = self._files.program(name, search or host.DEFAULT_PATH, directory)
        if found.problem:
            where = (*path, "command")
            message = f"command: cannot execute '{name}': {found.problem}"
            place = self._tree.value(where)
            self._report.warning(place, "no-such-executable", message, key=where)
        return found

    def _stdin(self, path: Path, service: model.Service) -> str | None:
        if service.stdin is None or not service.stdin.startswith("file:"):
            return service.stdin
        where = (*path, "stdin")
        file = _absolute(service.stdin[5:], self._tree, where)
        error = self._files.readable(file)
        if error:
            message = f"stdin: cannot read '{file}': {error}"
            self._report.warning(self._tree.value(where), "unreadable", message, key=where)
        return f"file:{file}"


def _worded(where: Path, what: object) -> str:
    return f"{'.'.join(str(part) for part in where[2:] if isinstance(part, str))}: {what}"


def _shell_word(command: CommandLine) -> str | None:
    """Return a word of a command string that only a shell would understand."""
    text = command.text
    if text is None or not any(character in text for character in "|&;<>`$"):
        return None
    try:
        words = shlex.split(text, posix=False)  # keeps the quotes, which make a word plain
    except ValueError:
        return None
    for word in words:
        if word in _SHELL_WORDS or _SHELL_START.match(word):
            return word
        if word.endswith(";") and word[0] not in "'\"":
            return ";"
    return None


def _members(table: model.Table) -> dict[str, Any]:
    return {name: value for name, value in table if value is not None}


def _restart(service: model.Service, *, oneshot: bool) -> RestartPolicy | None:
    if service.restart is not None:
        return RestartPolicy(service.restart)
    return RestartPolicy.NO if oneshot else None


def _start_timeout(service: model.Service, *, oneshot: bool) -> float | None:
    return math.inf if oneshot and service.start_timeout is None else service.start_timeout


def _stop(service: model.Service) -> StopSpec:
    if service.stop.sequence:
        steps = tuple(StopStep(step.signum, step.timeout) for step in service.stop.sequence)
    else:
        first = StopSpec().steps[0]
        signum = first.signum if service.stop_signal is None else service.stop_signal
        timeout = first.timeout if service.stop_timeout is None else service.stop_timeout
        steps = (StopStep(signum, timeout),)
    scope = service.stop.scope
    return StopSpec(
        steps,
        Scope.GROUP if scope in {None, "auto"} else Scope(scope),
        service.stop.leftovers == "keep",
    )


def _success(service: model.Service, *, oneshot: bool) -> Ends:
    usual: Ends = ServiceSpec._field_defaults["success"]
    codes, signals = service.success_exit_codes, service.success_signals
    if signals is None:
        signals = () if oneshot else usual.signals
    return Ends(usual.codes if codes is None else codes, signals)


def _ends(listed: tuple[End, ...] | None) -> Ends:
    listed = listed or ()
    return Ends(
        tuple(end.code for end in listed if end.code is not None),
        tuple(end.signum for end in listed if end.signum is not None),
    )


def _start_limit(table: model.StartLimit) -> StartLimitSpec:
    members = _members(table)
    if "action" in members:
        members["action"] = LimitAction(members["action"])
    return StartLimitSpec(**members)
