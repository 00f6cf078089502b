"""The words of a command line: what they mean, and what is said of those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.cli.args import help_of, help_of_all, parse
from supervisord_pidfd.cli.verbs import HINTS, VERBS
from supervisord_pidfd.errors import UsageError


def refused(*words):
    with pytest.raises(UsageError) as caught:
        parse(words)
    return str(caught.value)


def test_no_verb_is_status():
    assert parse([]).verb.name == "status"


@pytest.mark.parametrize(
    "line",
    [
        "--json restart -q web --timeout 5s",
        "restart web --timeout=5s --json -q",
        "-q --json restart --timeout 5 web",
        "restart -q --json --timeout 5s -- web",
    ],
)
def test_options_stand_before_or_after_the_verb(line):
    words = parse(line.split())

    assert words.verb.name == "restart"
    assert words.operands == ("web",)
    assert words.values == {"json": True, "quiet": True, "timeout": 5.0}


@pytest.mark.parametrize(
    ("alias", "verb"),
    [
        ("ps", "status"), ("ls", "status"), ("list", "status"), ("tail", "logs"),
        ("monitor", "events"), ("graph", "deps"), ("reread", "plan"), ("update", "apply"),
        ("quit", "shutdown"),
    ],
)  # fmt: skip
def test_aliases(alias, verb):
    assert parse([alias]).verb.name == verb


@pytest.mark.parametrize("alias", ["why", "cat", "describe", "info", "monit"])
def test_aliases_of_verbs_with_a_name(alias):
    names = [] if alias == "monit" else ["web"]

    assert alias in parse([alias, *names]).verb.aliases


def test_a_verb_after_the_socket():
    words = parse(["-s", "start", "stop", "web"])

    assert (words.verb.name, words.text("socket")) == ("stop", "start")


def test_short_switches_in_one_word_with_the_value_of_the_last():
    words = parse(["logs", "-fn5", "web"])

    assert words.values == {"follow": True, "lines": 5}


def test_after_two_dashes_everything_is_a_name():
    assert parse(["status", "--", "--json", "-x"]).operands == ("--json", "-x")


def test_all_stands_for_every_service():
    assert parse(["stop", "--all"]).names == ["all"]


def test_all_of_status_is_about_internal_services():
    words = parse(["status", "--all"])

    assert words.names is None
    assert words.has("all")


@pytest.mark.parametrize(
    ("line", "signal", "names"),
    [
        ("kill web", "TERM", ["web"]),
        ("kill HUP web db", "HUP", ["web", "db"]),
        ("kill -9 web", "9", ["web"]),
        ("kill -SIGHUP web", "SIGHUP", ["web"]),
        ("kill web db", "TERM", ["web", "db"]),
        ("kill --all", "TERM", ["all"]),
        ("kill usr1 --all", "USR1", ["all"]),
        ("signal rtmin+3 'web*'", "RTMIN+3", ["'web*'"]),
    ],
)
def test_signals_of_kill_and_signal(line, signal, names):
    words = parse(line.split())

    assert (words.text("signal"), words.names) == (signal, names)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("signal NOPE web", "not a signal: 'NOPE'"),
        ("start", "cannot start: no name (pidfdctl start NAME…; or --all)"),
        ("signal hup", "cannot signal: no name (pidfdctl signal SIG NAME…; or --all)"),
        ("kill -9", "cannot kill: needs names, or --all (pidfdctl kill [SIG] NAME…)"),
        ("stop web --all", "names and --all exclude each other"),
        ("start web --nope", "unknown option '--nope'"),
        ("start web --time", "unknown option '--time' (did you mean '--timeout'?)"),
        ("start web --timeout", "'--timeout' needs a value"),
        ("start web --timeout soon", "--timeout: not a duration: 'soon'"),
        ("start web --only=1", "'--only' takes no value"),
        ("wait web --for breakfast", "none of ready, running, healthy, stopped"),
        ("wait", "cannot wait: needs names, or --change ID"),
        ("wait web --change 3", "cannot wait: needs names, or --change ID"),
        ("wait --change x", "--change: not a number: 'x'"),
        ("explain web db", "too many words: 'db'"),
        ("explain", "too few words"),
        ("shutdown now", "too many words: 'now'"),
        ("sttart web", "cannot do 'sttart': no such verb (did you mean 'start'?)"),
        ("zzzzz", "'pidfdctl --help' lists them"),
        ("events --since soon", "--since: not a duration: 'soon'"),
        ("logs -n -5", "--lines: not a number: '-5'"),
    ],
)
def test_what_is_wrong_is_said(line, said):
    assert said in refused(*line.split())


def test_reload_without_a_name_names_the_right_verb():
    assert refused("reload") == (
        "cannot reload: no name"
        " ('reload NAME' tells a service to reload itself; 'apply' loads the file)"
    )


@pytest.mark.parametrize("word", ["add", "remove", "clear", "fg", "open", "avail", "pid", "help"])
def test_verbs_of_other_supervisors_get_a_hint(word):
    assert refused(word, "web") == f"cannot {word}: no such verb ({HINTS[word]})"


def test_help_is_given_whatever_else_is_missing():
    assert parse(["start", "--help"]).has("help")


def test_every_verb_and_option_is_in_the_help():
    every = help_of_all()

    for verb in VERBS:
        assert f"  {verb.name}" in every
        one = help_of(verb)
        assert all(flag in one for option in verb.options for flag in option.flags)
        assert all(alias in one for alias in verb.aliases)


@given(st.lists(st.text(max_size=12) | st.sampled_from(["start", "--all", "-s", "-n", "kill"])))
def test_any_words_are_understood_or_refused(words):
    try:
        found = parse(words)
    except UsageError:
        return
    assert found.what
