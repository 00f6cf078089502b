"""Plan and apply: another configuration is looked at, tried out, and carried out or left alone.

Everything that somebody wants of a configuration goes through one queue, SIGHUP too, so that two
of them never act on the same moment. A wish is loaded by the config child, compared with what
runs, refused as a whole or carried out as a whole: nothing is done before the last thing that can
say no has been asked.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from supervisord_pidfd.answers import EVERYTHING, SHUTTING_DOWN
from supervisord_pidfd.applying import Applying, Outcome
from supervisord_pidfd.changes import Change, Changes
from supervisord_pidfd.core.goals import Asked, Goal, ask_restart
from supervisord_pidfd.core.lifecycle import Wanted
from supervisord_pidfd.core.mixing import groups_of, misfit, mix
from supervisord_pidfd.core.naming import NoSuchNameError, expand
from supervisord_pidfd.core.reload import (
    PlanItem,
    digest_of,
    items_of,
    plan_reload,
)
from supervisord_pidfd.core.settings import place_of_key, settings_item, waiting_keys
from supervisord_pidfd.core.spec import ServiceSpec, SupervisorSpec
from supervisord_pidfd.loop import Loop
from supervisord_pidfd.service import Service
from supervisord_pidfd.supervisor import Supervisor
from supervisord_pidfd.trials import Failures, Trials, refusal

SETTLE_S = 1.0
"""How long a `simple` service that was started by an apply has to stay up to be counted as up."""

Services = Mapping[str, ServiceSpec]


class Invalid(NamedTuple):
    """Say that the configuration cannot be used, in the shape that clients get."""

    problems: tuple[dict[str, Any], ...]


class Refusal(NamedTuple):
    """Say that nothing was done, and why."""

    reason: str
    message: str


class Unknown(NamedTuple):
    """Say that a name of `only` stands for nothing."""

    name: str
    suggestion: str | None


class Planned(NamedTuple):
    """Hold what an apply would do."""

    digest: str
    items: tuple[PlanItem, ...]
    problems: tuple[dict[str, Any], ...]


class Applied(NamedTuple):
    """Hold what was begun; the change says when it is over."""

    change: Change
    digest: str
    problems: tuple[dict[str, Any], ...]


Answer = Invalid | Refusal | Unknown | Planned | Applied


class Wish(NamedTuple):
    """Hold what somebody wants: a plan of this file (the daemon's own if None), or an apply.

    `only` are names as typed; `expect` is the digest of the plan that was seen.
    """

    by: str
    answered: Callable[[Answer], None]
    apply: bool = True
    file: str | None = None
    only: tuple[str, ...] | None = None
    restart: bool = True
    expect: str | None = None


class Order(NamedTuple):
    """Hold what is to be carried out: the whole state that there is to be, and how it came.

    `items` are what it does, `digest` the name of the plan that it belongs to, `waiting` the keys
    that need a new daemon. It is not `whole` if services of the file were left out.
    """

    services: Services
    supervisor: SupervisorSpec
    items: tuple[PlanItem, ...]
    waiting: tuple[str, ...]
    digest: str
    problems: tuple[dict[str, Any], ...]
    outcome: Outcome
    restart: bool = True
    whole: bool = True


class GoingOver(NamedTuple):
    """Hold how the daemon goes over to another configuration.

    `carry_out` does it; `rejected` tells that one was not taken, by the load that came to nothing
    or by words; `plain` turns a problem into plain data. `file` is the daemon's own.
    """

    applying: Applying
    carry_out: Callable[[Order], None]
    rejected: Callable[[Outcome, str | None], None]
    plain: Callable[[Any], dict[str, Any]]
    file: str = ""


class Sides(NamedTuple):
    """Hold what the queue stands between."""

    loop: Loop
    supervisor: Supervisor
    changes: Changes
    trials: Trials
    how: GoingOver


class Configuring:
    """Answer one wish after the other.

    `running` is what the daemon was started with: what needs a new daemon is measured by it.
    """

    def __init__(self, sides: Sides, running: SupervisorSpec) -> None:
        self._sides = sides
        self._running = running
        self._waiting: deque[Wish] = deque()
        self._current: Wish | None = None

    def ask(self, wish: Wish) -> None:
        """Take in a wish; signals that come while one waits are that one."""
        if self._sides.supervisor.stopping:
            wish.answered(Refusal("shutting_down", SHUTTING_DOWN))
            return
        if wish.by == "signal" and any(one.by == "signal" for one in self._waiting):
            return
        self._waiting.append(wish)
        self._next()

    def withdraw(self, wish: Wish) -> None:
        """Forget a plan that nobody waits for any more; an apply goes on."""
        if not wish.apply and wish in self._waiting:
            self._waiting.remove(wish)

    def close(self) -> None:
        """Refuse whatever is not carried out yet: the daemon shuts down."""
        self._sides.how.applying.cancel()
        wishes = [*((self._current,) if self._current else ()), *self._waiting]
        self._current = None
        self._waiting.clear()
        for wish in wishes:
            wish.answered(Refusal("shutting_down", SHUTTING_DOWN))

    def _next(self) -> None:
        if self._current is None and self._waiting and not self._sides.supervisor.stopping:
            self._current = wish = self._waiting.popleft()
            self._sides.how.applying.load(wish.by, file=wish.file)

    def _finish(self, wish: Wish, answer: Answer) -> None:
        if self._current is wish:
            self._current = None
            wish.answered(answer)
            self._next()

    # -- one wish ---------------------------------------------------------------------------------

    def loaded(self, outcome: Outcome) -> None:
        """Take in what came of the load that a wish asked for."""
        wish = self._current
        if wish is not None:
            with self._not_in_vain(wish):
                self._judge(wish, outcome)

    @contextlib.contextmanager
    def _not_in_vain(self, wish: Wish) -> Iterator[None]:
        """Let the queue go on whatever happens to one wish: a bug must not stop all others."""
        try:
            yield
        except BaseException as error:
            kind = type(error).__name__
            problem = _problem(
                f"internal error: {kind}", "error", "syntax", file=self._sides.how.file
            )
            self._finish(wish, Invalid((problem,)))
            raise

    def _judge(self, wish: Wish, outcome: Outcome) -> None:
        reply = outcome.reply
        if outcome.other_version:
            self._refuse(wish, outcome, "version_changed", str(outcome.error))
        elif reply is None or not reply.ok:
            if wish.apply:
                self._sides.how.rejected(outcome, None)
            self._finish(wish, Invalid(self._problems(outcome)))
        else:
            self._compare(wish, outcome)

    def _compare(self, wish: Wish, outcome: Outcome) -> None:
        """Make the plan; go on with it if that is wanted, and if it is the one that was seen."""
        reply, supervisor = outcome.reply, self._sides.supervisor
        old, new = supervisor.planned(), {spec.name: spec for spec in reply.services}
        items = items_of(plan_reload(old, new), old, new)
        settings = settings_item(supervisor.spec, reply.supervisor)
        if settings is not None:
            items = (settings, *items)
        digest = digest_of(items, new)
        waiting = waiting_keys(self._running, reply.supervisor)
        file = self._sides.how.file
        late = (_needs_restart(key, reply.supervisor, file) for key in waiting)
        problems = (*self._problems(outcome), *late)
        if not wish.apply:
            self._finish(wish, Planned(digest, items, problems))
            return
        if wish.expect not in {None, digest}:
            message = f"the plan is {digest} now, not {wish.expect} (pidfdctl plan)"
            self._finish(wish, Refusal("plan_changed", message))
            return
        order: Order | None = Order(
            new, reply.supervisor, items, waiting, digest, problems, outcome, wish.restart
        )
        if order is not None and wish.only is not None:
            order = self._choose(wish, wish.only, order, old)
        if order is not None:
            self._try_out(wish, order)

    def _choose(
        self, wish: Wish, only: Iterable[str], order: Order, old: Services
    ) -> Order | None:
        """Leave all but some services as they are; None if that cannot be, which is answered."""
        every = {**old, **order.services}
        try:
            names = (
                set(every) if EVERYTHING in only else set(expand(only, every, groups_of(every)))
            )
        except NoSuchNameError as error:
            self._finish(wish, Unknown(error.name, error.suggestion))
            return None
        services = mix(old, order.services, names)
        wrong = misfit(services)
        if wrong is not None:
            place = {"file": wrong.file or "", "line": wrong.line or 1}
            self._finish(wish, Invalid((_problem(wrong.message, "error", wrong.code, **place),)))
            return None
        return order._replace(
            services=services,
            supervisor=self._sides.supervisor.spec,
            items=tuple(item for item in order.items if item.service in names),
            waiting=(),
            whole=False,
        )

    def _try_out(self, wish: Wish, order: Order) -> None:
        """Run the checks of what would be restarted; nobody has been touched yet."""
        services = self._sides.supervisor.services
        candidates = [
            (services[item.service], order.services[item.service])
            for item in order.items
            if item.action == "restart" and wish.restart and _is_up(services[item.service])
        ]
        self._sides.trials.run(candidates, lambda failures: self._tried(wish, order, failures))

    def _tried(self, wish: Wish, order: Order, failures: Failures) -> None:
        if self._current is not wish:
            return
        if failures:
            self._refuse(wish, order.outcome, "reload_check_failed", refusal(failures))
        else:
            with self._not_in_vain(wish):
                change = self._carry_out(order)
            self._finish(wish, Applied(change, order.digest, order.problems))

    def _refuse(self, wish: Wish, outcome: Outcome, reason: str, message: str) -> None:
        if wish.apply:
            self._sides.how.rejected(outcome, message)
        self._finish(wish, Refusal(reason, message))

    # -- carrying out -----------------------------------------------------------------------------

    def _carry_out(self, order: Order) -> Change:
        """Begin a change that follows every service of the plan, and go over."""
        changes = self._sides.changes
        asked: dict[str, Asked] = {}
        said: dict[str, str] = {}
        for item in order.items:
            goal = self._asked(item, order)
            if isinstance(goal, Asked):
                asked[item.service] = goal
            elif item.service in order.services:
                said[item.service] = goal
        restarted = [name for name, goal in asked.items() if goal.goal is Goal.STARTED]
        services = self._sides.supervisor.services
        runs = {name: one.state.run for name, one in services.items() if one.state.has_process}
        change = changes.begin("apply", asked)
        self._sides.how.carry_out(order)
        changes.extend(change, self._along(restarted, runs))
        for name, words in said.items():
            changes.note(change, name, words, ok=True)
        changes.look(change)
        return change

    def _along(self, restarted: Iterable[str], runs: Mapping[str, int]) -> dict[str, Asked]:
        """Return what is asked of those that are restarted because of others.

        `runs` are those that had a process before, with the number of their run.
        """
        now = self._sides.loop.clock.now()
        named = [name for name in restarted if name in runs]
        along = self._sides.supervisor.sets.names_for_restart(named, only=False)
        return {
            name: Asked(Goal.STARTED, now, runs[name] + 1, SETTLE_S)
            for name in along
            if name in runs and name not in named
        }

    def _asked(self, item: PlanItem, order: Order) -> Asked | str:
        """Return what is to be reached, or what there is to say where that is all."""
        now = self._sides.loop.clock.now()
        service = self._sides.supervisor.services.get(item.service)
        if item.action == "remove":
            return Asked(Goal.GONE, now)
        if item.action == "add":
            run = 1 if service is None else service.state.run + 1
            starts = order.services[item.service].autostart
            return Asked(Goal.STARTED, now, run, SETTLE_S) if starts else "added"
        if item.action == "restart" and service is not None:
            if service.state.wanted is Wanted.DOWN:
                return "updated; used at the next start"
            if not order.restart:
                return "updated; the restart is pending"
            return ask_restart(service.state, now, SETTLE_S)
        return "updated"

    def _problems(self, outcome: Outcome) -> tuple[dict[str, Any], ...]:
        """Return what is wrong with a file, or why there is nothing to say about it."""
        if outcome.reply is None:
            file = self._sides.how.file
            return (_problem(str(outcome.error), "error", "syntax", file=file),)
        return tuple(self._sides.how.plain(problem) for problem in outcome.reply.problems)


def _needs_restart(key: str, spec: SupervisorSpec, own_file: str) -> dict[str, Any]:
    file, line = place_of_key(spec, key)
    message = f"{key} takes effect when the daemon is started again"
    place = {"file": file or own_file, "line": line or 1}
    return _problem(message, "warning", "needs-restart", key=key, **place)


def _problem(message: str, severity: str, code: str, **others: Any) -> dict[str, Any]:
    """Describe a problem that the config child knows nothing of."""
    return {
        "file": "", "line": 1, "column": 1, "severity": severity, "code": code, "key": None,
        "message": message, "hint": None, "source": None, "see_also": [], **others,
    }  # fmt: skip


def _is_up(service: Service) -> bool:
    return service.state.has_process and service.state.wanted is Wanted.UP
