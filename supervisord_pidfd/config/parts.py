"""Tables to parts of a spec: what is written, with the defaults that depend on the type."""

import math
from typing import TYPE_CHECKING, Any

from supervisord_pidfd.config import model
from supervisord_pidfd.config.fields import End
from supervisord_pidfd.core.exitstatus import Ends
from supervisord_pidfd.core.spec import (
    BackoffSpec,
    LimitAction,
    NotifyAccess,
    Overlap,
    ResourceLimit,
    RestartPolicy,
    ScheduleSpec,
    ServiceSpec,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
)

if TYPE_CHECKING:
    from supervisord_pidfd.config import tables


def given(**members: Any) -> dict[str, Any]:
    """Leave out what was not written, so that the spec's own default holds."""
    return {name: value for name, value in members.items() if value is not None}


def rotation_of(table: "tables.Log | tables.DaemonLog") -> dict[str, Any]:
    """Return the members of a LogSpec that say when its files are rotated, and what is kept."""
    every = table.rotate_every
    return given(
        rotate_size=table.rotate_size,
        rotate_keep=table.rotate_keep,
        rotate_total=table.rotate_total,
        rotate_every=every if isinstance(every, float) else None,
        rotate_at=every if isinstance(every, str) else None,
        compress=table.compress,
    )


def parts_of(service: model.Service) -> dict[str, Any]:
    """Return the members of a spec that follow from the service's table alone."""
    oneshot = service.type == "oneshot"
    return given(
        type=_TYPES[service.type],
        description=service.description,
        autostart=_autostart(service),
        restart=_restart(service, oneshot=oneshot),
        umask=service.umask,
        inherit=service.inherit_environment,
        unset=service.unset_environment,
        start_timeout=_start_timeout(service, oneshot=oneshot),
        runtime_max=service.runtime_max,
        schedule=_schedule(service),
        notify_access=service.notify_access and NotifyAccess(service.notify_access),
        fdstore_max=service.fdstore and service.fdstore.max,
        metrics_port=service.metrics_port,
        metrics_path=service.metrics_path,
        success=_success(service, oneshot=oneshot),
        restart_prevent=_ends(service.restart_prevent),
        restart_force=_ends(service.restart_force),
        backoff=service.backoff and BackoffSpec(**given(**dict(service.backoff))),
        start_limit=service.start_limit and _start_limit(service.start_limit),
        critical=service.critical,
        main=service.main,
        limits=tuple(
            ResourceLimit(name, pair.soft, pair.hard)
            for name, pair in sorted((service.limits or {}).items())
        ),
        no_new_privileges=service.sandbox and service.sandbox.no_new_privileges,
        parent_death_signal=service.parent_death_signal,
        **_scheduling(service.scheduling),
    )


_TYPES = {
    None: ServiceType.SIMPLE, "simple": ServiceType.SIMPLE, "exec": ServiceType.SIMPLE,
    "notify": ServiceType.NOTIFY, "oneshot": ServiceType.ONESHOT,
}  # fmt: skip


def _scheduling(table: "tables.Scheduling | None") -> dict[str, Any]:
    if table is None:
        return {}
    return {
        "nice": table.nice, "oom_score_adjust": table.oom_score_adjust,
        "cpu_affinity": table.cpu_affinity, "sched_policy": table.policy,
        "sched_priority": table.priority,
    }  # fmt: skip


def _autostart(service: model.Service) -> bool | None:
    """Return whether it is wanted up at first; what has a schedule waits for its time."""
    if service.autostart is None and service.schedule is not None:
        return False
    return service.autostart


def _restart(service: model.Service, *, oneshot: bool) -> RestartPolicy | None:
    if service.restart is not None:
        return RestartPolicy(service.restart)
    return RestartPolicy.NO if oneshot else None


def _start_timeout(service: model.Service, *, oneshot: bool) -> float | None:
    return math.inf if oneshot and service.start_timeout is None else service.start_timeout


def steps_of(service: model.Service) -> tuple[StopStep, ...]:
    """Return the signals of a stop, and how long each is given."""
    if service.stop and service.stop.sequence:
        return tuple(StopStep(step.signum, step.timeout) for step in service.stop.sequence)
    first = StopSpec().steps[0]
    signum = first.signum if service.stop_signal is None else service.stop_signal
    timeout = first.timeout if service.stop_timeout is None else service.stop_timeout
    return (StopStep(signum, timeout),)


def _schedule(service: model.Service) -> ScheduleSpec | None:
    table = service.schedule
    if table is None or (table.every is None and table.calendar is None):
        return None
    return ScheduleSpec(
        **given(
            every=table.every,
            calendar=table.calendar,
            overlap=None if table.overlap is None else Overlap(table.overlap),
            jitter=table.jitter,
            timezone=table.timezone,
        )
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


def _start_limit(table: "tables.StartLimit") -> StartLimitSpec:
    action = None if table.action is None else LimitAction(table.action)
    return StartLimitSpec(
        **given(burst=table.burst, interval=table.interval, action=action),
    )
