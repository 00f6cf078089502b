"""Write the page of the phases from the machine itself.

`python -m tests.support.states > docs/states.md`

The table of rules does not say where a rule leads, so the machine is tried: from a new service on,
every event that a true shell could tell is applied to every state found, for a few services that
differ in what matters, until nothing new is found. What is drawn is what happened.
"""

import math
import sys
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import NamedTuple

from supervisord_pidfd.core.events import (
    AttemptsForgiven,
    BecameReady,
    CheckChanged,
    DeadlinePassed,
    Event,
    Executed,
    FailRequested,
    GateOpened,
    HookEnded,
    KillRequested,
    MainPidChanged,
    MainReplaced,
    ProcessExited,
    ReadinessLost,
    ReloadBegan,
    ReloadRequested,
    ResetRequested,
    RestartRequested,
    ScopeEmptied,
    Spawned,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TimeoutExtended,
    WatchdogChanged,
    WatchdogPinged,
    WatchdogTriggered,
)
from supervisord_pidfd.core.exitstatus import Exited, Usage
from supervisord_pidfd.core.lifecycle import TABLE, Held, Phase, ServiceState, step
from supervisord_pidfd.core.spec import (
    CheckAction,
    CheckKind,
    CheckSpec,
    CommandSpec,
    Hook,
    HooksSpec,
    ReadyKind,
    ReadySpec,
    ReloadSpec,
    RestartPolicy,
    ServiceSpec,
    ServiceType,
    StartLimitSpec,
    StopSpec,
    StopStep,
)

PHASES = {
    Phase.STOPPED: "down, as asked",
    Phase.WAITING: "wanted up; something else has to come first",
    Phase.STARTING: "its first hook or its process is at work, not ready; a oneshot: all its run",
    Phase.RUNNING: "up",
    Phase.STOPPING: "told to end, or its main process has and others of its scope or a hook live",
    Phase.BACKOFF: "ended; the next start has a date",
    Phase.EXITED: "ended cleanly and stays down",
    Phase.FAILED: "ended badly and stays down until `reset`, `start` or `restart`",
}
_NO_MOVE: dict[type, tuple[str, str]] = {
    ReloadRequested: ("reload", "a command"),
    ReadinessLost: ("readiness lost", "it closed its readiness descriptor without a word"),
    ReloadBegan: ("reload began", "RELOADING=1"),
    TimeoutExtended: ("timeout extended", "EXTEND_TIMEOUT_USEC"),
    WatchdogPinged: ("watchdog pinged", "WATCHDOG=1"),
    WatchdogTriggered: ("watchdog triggered", "WATCHDOG=trigger"),
    WatchdogChanged: ("watchdog changed", "WATCHDOG_USEC"),
    AttemptsForgiven: ("attempts forgiven", "RESTART_RESET=1"),
    MainPidChanged: ("main pid changed", "MAINPID"),
    MainReplaced: ("main replaced", "the main process ended, the one it had named goes on"),
}
EVENTS: dict[type, tuple[str, str]] = {
    StartRequested: ("start", "a command, the configuration"),
    StopRequested: ("stop", "a command, the configuration, the shutdown"),
    RestartRequested: ("restart", "a command, the configuration"),
    ResetRequested: ("reset", "a command"),
    KillRequested: ("kill", "a second signal hastens the shutdown"),
    GateOpened: ("gate opened", "what a start had to wait for may be there"),
    Spawned: ("spawned", "a process exists"),
    Executed: ("executed", "it has executed the program"),
    SpawnFailed: ("spawn failed", "the start ended before that"),
    ProcessExited: ("process exited", "the main process ended"),
    ScopeEmptied: ("scope emptied", "the last of its scope ended after it"),
    BecameReady: ("became ready", "it said, or a probe found, that it is ready"),
    CheckChanged: ("check changed", "a health check has crossed its threshold"),
    FailRequested: ("fail", "a limit over several services"),
    HookEnded: ("hook ended", "a command beside the main process is over"),
    **_NO_MOVE,
    DeadlinePassed: ("deadline", "the earliest moment of the state has come"),
}

_SPECS = (
    ServiceSpec(
        "restarted",
        ("/bin/a",),
        ready=ReadySpec(ReadyKind.DELAY, 5.0),
        runtime_max=60.0,
        stop=StopSpec((StopStep(15, 3.0), StopStep(2, 3.0))),
        start_limit=StartLimitSpec(burst=1),
    ),
    ServiceSpec("left", ("/bin/a",), restart=RestartPolicy.NO),
    ServiceSpec("task", ("/bin/a",), type=ServiceType.ONESHOT, restart=RestartPolicy.NO),
    ServiceSpec(
        "hooked",
        ("/bin/a",),
        restart=RestartPolicy.NO,
        hooks=HooksSpec(*[CommandSpec(("/bin/hook",))] * 5),
    ),
    ServiceSpec(
        "watched",
        ("/bin/a",),
        type=ServiceType.NOTIFY,
        restart=RestartPolicy.NO,
        checks=(CheckSpec("dog", CheckKind.WATCHDOG, period=5.0),),
        reload=ReloadSpec(command=CommandSpec(("/bin/reload",))),
    ),
    ServiceSpec(
        "prepared",
        ("/bin/a",),
        hooks=HooksSpec(pre_start=CommandSpec(("/bin/hook",))),
        start_limit=StartLimitSpec(burst=1),
    ),
)
_AT_ANY_TIME: tuple[Event, ...] = (
    StartRequested("operator:0"),
    StopRequested("operator:0", kill_by=2.0),
    RestartRequested("operator:0"),
    ResetRequested("operator:0"),
    KillRequested(),
    GateOpened(),
    ScopeEmptied(),
    DeadlinePassed(),
    FailRequested("group_limit"),
)
_TOLD_BESIDE: tuple[Event, ...] = (
    ReloadRequested("operator:0"),
    BecameReady("notify"),
    ReadinessLost(),
    ReloadBegan(),
    TimeoutExtended(1.0),
    WatchdogPinged(),
    WatchdogTriggered(),
    WatchdogChanged(1.0),
    AttemptsForgiven(),
    CheckChanged("live", healthy=True, action=CheckAction.NONE),
    CheckChanged("live", healthy=False, action=CheckAction.RESTART),
    MainPidChanged(2),
)
_MAY_START = frozenset(
    {
        StartRequested, RestartRequested, GateOpened, DeadlinePassed, HookEnded, SpawnFailed,
        ProcessExited, ScopeEmptied,
    }
)  # fmt: skip
"""Events that a shut gate makes a difference to."""

Moves = dict[tuple[Phase, type], set[Phase]]


class _Place(NamedTuple):
    """Hold where the exploration is: a service, its state, and whether its program runs."""

    spec: ServiceSpec
    state: ServiceState
    executed: bool = False

    def key(self) -> object:
        """Return what decides where this can lead: no numbers, and of moments which there are."""
        state = self.state
        moments = (state.start_by, state.ready_at_due, state.max_run_by, state.kill_by)
        return (
            self.spec.name, self.executed, state.way, bool(state.failing), state.phase,
            state.reloading, state.reload_said,
            state.heir, state.hook, state.emptied, state.cut, state.fail_reason,
            state.wanted, state.pid, state.stop_cause, state.start_queued, state.step,
            state.forced, state.unkillable, state.ended,
            bool(state.attempt), bool(state.starts), *map(math.isfinite, moments),
        )  # fmt: skip


def explore() -> Moves:
    """Return where each event can lead from each phase, the phase itself included."""
    moves: Moves = defaultdict(set)
    places = deque(_Place(spec, ServiceState()) for spec in _SPECS)
    known = {place.key() for place in places}
    while places:
        place = places.popleft()
        for event in _possible(place):
            shut = (Held("start_concurrency"),) if type(event) in _MAY_START else ()
            for held in (None, *shut):
                following = _follow(place, event, held)
                moves[place.state.phase, type(event)].add(following.state.phase)
                if following.key() not in known:
                    known.add(following.key())
                    places.append(following)
    return moves


def _possible(place: _Place) -> Iterator[Event]:
    """List what can happen next; the answer to a spawn comes before anything else."""
    state = place.state
    if state.phase is Phase.STARTING and state.pid is None and state.hook is None:
        yield Spawned(1, 0.0)
        yield SpawnFailed("fork", "", "EAGAIN")
        yield SpawnFailed("exec", "/bin/a", "ENOENT")
        return
    yield from _AT_ANY_TIME
    if place.spec.type is ServiceType.NOTIFY or not state.has_process:
        yield from _TOLD_BESIDE  # what says nothing is not told, but it may come late
    for ok in (True, False):  # that of no hook is one that comes late
        yield HookEnded(state.hook or Hook.PRE_START, ok)
    if state.heir is not None and state.phase is not Phase.STOPPING:
        yield MainReplaced(state.heir)
    if state.pid is not None and place.executed:
        for code in (0, 1):
            for scope_empty in (True, False):
                yield ProcessExited(Exited(code), Usage(), scope_empty)
    elif state.pid is not None:
        yield Executed()
        yield SpawnFailed("exec", "/bin/a", "ENOENT")


def _follow(place: _Place, event: Event, held: Held | None) -> _Place:
    now = place.state.deadline if isinstance(event, DeadlinePassed) else place.state.since
    if not math.isfinite(now):
        now = place.state.since
    state = step(place.spec, place.state, event, now, 0.0, held).state
    executed = state.pid is not None and (place.executed or isinstance(event, Executed))
    return _Place(place.spec, state, executed)


# -- the page -------------------------------------------------------------------------------------

_INTRO = """\
# Phases

Drawn from the machine in `supervisord_pidfd/core/lifecycle.py` by
`python -m tests.support.states`, which tries every event on every state it can reach; a test keeps
the two in step.
"""
_WANTED = """\
Beside the phase a service has what is *wanted*, `up` or `down`. A restart is "stopping, and wanted
up".
"""
_TABLE = """\
Where each event can lead. `·`: the phase stays, though the event may have its effect. Nothing: the
event cannot happen there, and telling it is a bug of the teller. A deadline is the earliest moment
of the state, so what it means depends on the phase.
"""


def page() -> str:
    """Return the text of `docs/states.md`."""
    moves = explore()
    phases = "\n".join(f"| `{phase}` | {meaning} |" for phase, meaning in PHASES.items())
    told = "\n".join(f"| {name} | {meaning} |" for name, meaning in EVENTS.values())
    return "\n".join(
        [
            _INTRO,
            f"| phase | meaning |\n|---|---|\n{phases}\n",
            _WANTED,
            f"```mermaid\nstateDiagram-v2\n{_diagram(moves)}\n```\n",
            "## Events\n",
            f"| event | it says |\n|---|---|\n{told}\n",
            _TABLE,
            _matrix(moves),
        ]
    )


def _diagram(moves: Moves) -> str:
    causes: dict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for kind, (name, _) in EVENTS.items():
        for before in Phase:
            for after in moves.get((before, kind), set()) - {before}:
                causes[before, after].append(name)
    edges = [
        f"    {before} --> {after}: {', '.join(causes[before, after])}"
        for before in Phase
        for after in Phase
        if (before, after) in causes
    ]
    return "\n".join(["    [*] --> stopped", *edges])


def _matrix(moves: Moves) -> str:
    head = "| | " + " | ".join(Phase) + " |\n" + "|---" * (len(Phase) + 1) + "|\n"
    rows = [
        f"| {name} | " + " | ".join(_cell(moves, phase, kind) for phase in Phase) + " |\n"
        for kind, (name, _) in EVENTS.items()
    ]
    return head + "".join(rows)


def _cell(moves: Moves, phase: Phase, kind: type) -> str:
    if kind not in TABLE[phase]:
        return ""
    reached = moves[phase, kind]
    return ", ".join("·" if after is phase else after for after in Phase if after in reached)


if __name__ == "__main__":
    sys.stdout.write(page())
