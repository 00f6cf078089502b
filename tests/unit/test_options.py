"""The words of the command line."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.errors import UsageError
from supervisord_pidfd.options import LATER, USAGE, VERBS, RunOptions, parse_run, verb_of


@pytest.mark.parametrize("verb", VERBS)
def test_a_known_verb_is_returned_whatever_follows(verb):
    assert verb_of([verb, "--anything"]) == verb


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_in_the_usage(verb):
    assert f"supervisord-pidfd {verb}" in USAGE


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no verb given"),
        (["start"], "unknown verb 'start'"),
        (["-c", "x.toml"], "unknown verb '-c'"),
        *[([word], "not available in this version") for word in LATER],
    ],
)
def test_a_missing_or_wrong_verb_is_explained(words, message):
    with pytest.raises(UsageError, match=message):
        verb_of(words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], RunOptions()),
        (["-c", "x.toml"], RunOptions(file="x.toml")),
        (["--config=x.toml"], RunOptions(file="x.toml")),
        (["--config", "-"], RunOptions(file="-")),
        (["-c", "a", "-c", "b"], RunOptions(file="b")),
        (["--set", "a=1", "--set=b=2=3"], RunOptions(overrides=("a=1", "b=2=3"))),
        (["--set", "a="], RunOptions(overrides=("a=",))),
        (["--pid1", "yes"], RunOptions(pid1="yes")),
        (["--pid1=no"], RunOptions(pid1="no")),
        (["--socket", "none"], RunOptions(socket="none")),
        (["--socket=/run/x"], RunOptions(socket="/run/x")),
        (["--", "sleep", "1"], RunOptions(command=("sleep", "1"))),
        (["--", "--", "-c"], RunOptions(command=("--", "-c"))),
        (["-c", "x", "--", "run"], RunOptions(file="x", command=("run",))),
    ],
)
def test_options_of_run(words, expected):
    assert parse_run(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["x.toml"], "unknown word 'x.toml' for 'run'; a command goes after '--'"),
        (["--verbose"], "unknown word '--verbose' for 'run'$"),
        (["--"], "'--' must be followed by a command"),
        (["-c"], "'-c' needs a value"),
        (["--set"], "'--set' needs a value"),
        (["--set", "key"], "'--set key' is not KEY=VALUE"),
        (["--pid1", "maybe"], "'--pid1 maybe' is none of auto, yes, no"),
        (["--socket="], "needs a path"),
    ],
)
def test_wrong_words_are_explained(words, message):
    with pytest.raises(UsageError, match=message):
        parse_run(words)


def test_a_command_without_a_file_is_a_single_service():
    assert parse_run(["--", "true"]).single
    assert not parse_run(["-c", "x", "--", "true"]).single
    assert not parse_run([]).single


@given(st.lists(st.text(max_size=8), max_size=6))
def test_any_words_are_parsed_or_refused_in_our_own_way(words):
    with contextlib.suppress(UsageError):
        assert isinstance(parse_run(words), RunOptions)


@given(st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=6))
def test_a_command_is_taken_word_for_word(command):
    assert parse_run(["--", *command]).command == tuple(command)
