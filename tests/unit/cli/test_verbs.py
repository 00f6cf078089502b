"""The table of verbs: whole, without clashes, and in step with the methods of the daemon."""

from collections import Counter

from supervisord_pidfd import commands
from supervisord_pidfd.cli import session
from supervisord_pidfd.cli.main import HANDLERS
from supervisord_pidfd.cli.verbs import GLOBAL, GOALS, HINTS, LEVELS, VERBS

METHODS = {method.name: method for method in commands.METHODS}
NOT_FOR_PEOPLE = {"Watch", "Counters"}
"""What only other programs ask for."""


def test_no_word_means_two_verbs():
    words = Counter(word for verb in VERBS for word in (verb.name, *verb.aliases))

    assert [word for word, times in words.items() if times > 1] == []
    assert HINTS.keys().isdisjoint(words)


def test_no_flag_means_two_things():
    for verb in VERBS:
        flags = Counter(flag for option in (*GLOBAL, *verb.options) for flag in option.flags)
        assert [flag for flag, times in flags.items() if times > 1] == [], verb.name


def test_every_verb_is_carried_out_somewhere():
    assert {verb.name for verb in VERBS} == HANDLERS.keys()


def test_verbs_call_methods_that_there_are():
    called = {verb.method for verb in VERBS if verb.method}

    assert called <= METHODS.keys()
    assert METHODS.keys() - called - NOT_FOR_PEOPLE == {"ReopenLogs"}  # `logs --reopen`


def test_options_that_are_parameters_have_their_name():
    ours = {"all", "watch", "check", "columns", "no_header", "names"}
    elsewhere = {
        "no_wait": "wait", "timeout": "timeout_s", "settle": "settle_s", "for": "condition",
        "lines": "last", "stdout": "stream", "stderr": "stream",
    }  # fmt: skip
    by_client = {"raw", "reopen", "format", "host", "once", "sort"}
    for verb in VERBS:
        method = METHODS.get(verb.method)
        parameters = {param.name for param in method.params} if method else set()
        keys = {option.key for option in verb.options} - ours - by_client
        if verb.name == "shutdown":
            keys -= {"no_wait"}  # the client's own wait
        assert {elsewhere.get(key, key) for key in keys} <= parameters, verb.name


def test_closed_lists_are_those_of_the_methods():
    choices = {
        (method.name, param.name): param.choices
        for method in commands.METHODS
        for param in method.params
        if param.choices
    }

    assert choices["Wait", "condition"] == GOALS
    assert choices["Health", "level"] == LEVELS


def test_the_client_names_the_interface_as_the_daemon_does():
    assert session.INTERFACE == commands.INTERFACE
    assert f"{commands.SERVICE_INTERFACE}." == session.VARLINK
