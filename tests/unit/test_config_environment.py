"""Environment files: `KEY=VALUE` lines."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.config.environment import (
    Content,
    Secret,
    UnreadableError,
    parse_variables,
    read,
    read_apart,
    reader,
    secret_of,
    variables_of,
)


@pytest.mark.parametrize(
    ("text", "variables"),
    [
        ("", {}),
        ("A=1\nB=2", {"A": "1", "B": "2"}),
        ("\n  # a comment\n\nA=1\n", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A=", {"A": ""}),
        ("A = 1", {"A": "1"}),
        ("A=a b  ", {"A": "a b"}),
        ("A=a # comment", {"A": "a"}),
        ("A=a#b", {"A": "a#b"}),
        ("A=#b", {"A": "#b"}),
        ('A="a b # c"', {"A": "a b # c"}),
        ('A="a\\"b\\\\c"', {"A": 'a"b\\c'}),
        ('A="two\nlines"\nB=1', {"A": "two\nlines", "B": "1"}),
        ("A='$HOME \\n'", {"A": "$HOME \\n"}),
        ("A='a'\"b\"c", {"A": "abc"}),
        ("A=a\\ b", {"A": "a b"}),
        ("A=$B${C}", {"A": "$B${C}"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("A='x' # c\nB=1", {"A": "x", "B": "1"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A==", {"A": "="}),
    ],
)
def test_variables(text, variables):
    assert parse_variables(text) == variables


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("A=1\nnonsense", "line 2 is not KEY=VALUE"),
        ("1A=1", "line 1 is not KEY=VALUE"),
        ("A='x\ny'\n\n=1", "line 4 is not KEY=VALUE"),
        ('A="x', "line 1: a quote is not closed"),
        ("A='x", "line 1: a quote is not closed"),
        ("A=a'x", "line 1: a quote is not closed"),
        ("A=x\0", "line 1 has a NUL character"),
        ("A='x' y'", "line 1: a quote is not closed"),
    ],
)
def test_no_variables(text, message):
    with pytest.raises(UnreadableError) as caught:
        parse_variables(text)

    assert (caught.value.error, caught.value.message) == ("EINVAL", message)


@given(st.text())
def test_any_text_is_read_or_refused(text):
    try:
        variables = parse_variables(text)
    except UnreadableError:
        return

    assert all(name.isidentifier() for name in variables)


@given(st.dictionaries(st.from_regex("[A-Z_][A-Z0-9_]{0,8}", fullmatch=True), st.text()))
def test_single_quotes_keep_everything(variables):
    variables = {k: v.replace("'", "").replace("\0", "") for k, v in variables.items()}
    text = "\n".join(f"{name}='{value}'" for name, value in variables.items())

    assert parse_variables(text) == variables


def test_bytes_that_are_no_text_survive():
    assert variables_of(Content(b"A=\xff\xfe", 0o600)) == {"A": "\udcff\udcfe"}


@pytest.mark.parametrize(
    ("data", "value"),
    [(b"x\n", "x"), (b"x\n\n", "x\n"), (b"x", "x"), (b"", ""), (b"a\nb", "a\nb")],
)
def test_one_final_newline_of_a_secret_is_removed(data, value):
    assert secret_of(Content(data, 0o100600)) == Secret(value, world_readable=False)


def test_a_secret_that_everybody_can_read_is_known():
    assert secret_of(Content(b"x", 0o100644)).world_readable


def test_a_secret_with_a_nul_is_refused():
    with pytest.raises(UnreadableError):
        secret_of(Content(b"a\0b", 0o100600))


# -- aside ----------------------------------------------------------------------------------------


def test_a_file_is_read_aside(tmp_path):
    file = tmp_path / "env"
    file.write_bytes(b"A=1\nB=2")
    file.chmod(0o640)

    content = read_apart(str(file), lambda work: work())

    assert (content.data, content.mode & 0o777) == (b"A=1\nB=2", 0o640)


def test_what_is_wrong_comes_back(tmp_path):
    with pytest.raises(UnreadableError) as caught:
        read_apart(str(tmp_path / "gone"), lambda work: work())

    assert (caught.value.error, caught.value.message) == ("ENOENT", "no such file or directory")


@pytest.mark.parametrize("answer", [None, b""])
def test_no_answer_is_a_timeout(answer):
    with pytest.raises(UnreadableError) as caught:
        read_apart("/x", lambda _: answer)

    assert caught.value.error == "ETIMEDOUT"


def test_only_what_may_hang_is_read_aside(tmp_path):
    (tmp_path / "env").write_text("A=1")
    asked = []
    read_file = reader(lambda path: "remote" in path, asked.append)

    assert read_file(str(tmp_path / "env")).data == b"A=1"
    with pytest.raises(UnreadableError):
        read_file("/remote/env")
    assert len(asked) == 1


# -- files ----------------------------------------------------------------------------------------


def test_a_file_that_is_too_large(tmp_path):
    (tmp_path / "env").touch()
    os.truncate(tmp_path / "env", 10 << 30)

    with pytest.raises(UnreadableError) as caught:
        read(str(tmp_path / "env"))

    assert caught.value.error == "EFBIG"


def test_a_file_of_proc_has_no_size_but_content():
    assert b"Pid:" in read("/proc/self/status").data
