"""A part of a new configuration, taken over alone."""

from supervisord_pidfd.core.mixing import Misfit, groups_of, misfit, mix
from supervisord_pidfd.core.spec import Condition, Dependency, ServiceSpec, Tie


def spec(name, *targets, tie=Tie.REQUIRES, **members):
    needs = tuple(Dependency(target, tie, Condition.READY) for target in targets)
    return ServiceSpec(name, ("/srv/x",), dependencies=needs, **members)


def by_name(*specs):
    return {one.name: one for one in specs}


def test_only_the_named_ones_are_new_and_the_others_are_as_they_were():
    old = by_name(spec("a"), spec("b"), spec("gone"), spec("stays"))
    new = by_name(spec("a", umask=1), spec("b", umask=1), spec("c"), spec("d"))

    mixed = mix(old, new, {"a", "c", "gone"})
    assert mixed == by_name(spec("a", umask=1), spec("b"), spec("c"), spec("stays"))


def test_what_fits_has_no_misfit():
    assert misfit(by_name(spec("a", "b"), spec("b"))) is None


def test_a_service_that_requires_what_is_left_out_does_not_fit():
    wrong = misfit(by_name(spec("a", "b", origin="x.toml:7")))

    message = "'a' requires 'b', which is not applied"
    assert wrong == Misfit("no-such-service", message, "x.toml", 7)


def test_what_is_only_wanted_may_be_left_out():
    assert misfit(by_name(spec("a", "b", tie=Tie.WANTS))) is None


def test_a_cycle_of_old_and_new_is_found():
    wrong = misfit(by_name(spec("a", "b"), spec("b", "a")))

    assert (wrong.code, wrong.message) == ("cycle", "a → b → a")


def test_the_members_of_groups_are_found_by_the_groups_they_name():
    services = by_name(spec("a", group="g"), spec("b"), spec("c", group="g"))

    assert groups_of(services) == {"g": ["a", "c"]}
