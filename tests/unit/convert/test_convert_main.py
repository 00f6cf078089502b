"""The verb itself: its words, its guesses, its exit codes."""

import stat

import pytest

from supervisord_pidfd.convert import main as convert
from supervisord_pidfd.errors import UsageError

PROGRAM = "[program:web]\ncommand=/bin/true\n"


@pytest.fixture
def run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(text, *words, name="s.conf"):
        (tmp_path / name).write_text(text)
        code = convert.main([name, *words])
        return code, *capsys.readouterr()

    return run


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("Procfile", "", "procfile"),
        ("Procfile.dev", "[program:x]", "procfile"),
        ("x.conf", ";a\n[program:x]\n", "supervisor"),
        ("x.ini", "[supervisord]\n", "supervisor"),
        ("x", "# a\nweb: x\n\nb: y", "procfile"),
    ],
)
def test_the_kind_is_guessed_by_name_and_content(name, text, kind):
    assert convert.guess(f"/some/{name}", text) == kind


@pytest.mark.parametrize("text", ["", "what\n", "web: a\nwhat\n", "[other]\na=b\n"])
def test_what_may_be_anything_is_asked_for(text):
    if text:
        with pytest.raises(UsageError, match="write --from"):
            convert.guess("x.conf", text)


def test_a_guess_is_told(run):
    code, out, err = run(PROGRAM)

    assert code == 0
    assert '[service.web]\ncommand = "/bin/true"\n' in out
    assert err == "supervisord-pidfd: s.conf is taken for a Supervisor configuration\n"


def test_what_is_said_is_not_guessed(run):
    code, out, err = run("web: x\n", "--from", "procfile", name="anything")

    assert (code, err) == (0, "")
    assert 'command = "x"' in out


@pytest.mark.parametrize("words", [("--strict",), ("--from=supervisor", "--strict")])
def test_strict_fails_if_something_was_left_out(run, words):
    code, out, err = run(f"{PROGRAM}colour=blue\n", *words)

    assert code == 1
    assert "# not converted: colour = blue (Supervisor has no such option)" in out
    assert "s.conf:3: not converted: [program:web] colour: " in err
    assert err.endswith("supervisord-pidfd: 1 thing not converted\n")
    assert run(f"{PROGRAM}colour=blue\n")[0] == 0
    assert run(PROGRAM, *words)[0] == 0


def test_a_note_is_no_failure(run):
    code, _, err = run("[program:a.b]\ncommand=x\n", "--strict")

    assert code == 0
    assert "s.conf:1: note: [program:a.b]: its name here is a-b" in err


def test_the_result_is_written_to_a_file_as_private_as_the_source(run, tmp_path):
    (tmp_path / "s.conf").touch()
    (tmp_path / "s.conf").chmod(0o600)
    code, out, _ = run(PROGRAM, "-o", "out.toml")
    file = tmp_path / "out.toml"

    assert (code, out) == (0, "")
    assert "[service.web]" in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_there_is_left_alone(run, tmp_path):
    (tmp_path / "out.toml").write_text("mine")
    code, out, err = run(PROGRAM, "-o", "out.toml")

    assert (code, out) == (2, "")
    assert "out.toml is there already" in err
    assert (tmp_path / "out.toml").read_text() == "mine"


def test_a_place_that_cannot_be_written_is_told(run):
    code, _, err = run(PROGRAM, "--output=nowhere/out.toml")

    assert code == 2
    assert "cannot write nowhere/out.toml: no such file or directory" in err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "convert needs a file"),
        (["a", "b"], "takes one file"),
        (["--from", "upstart", "a"], "none of supervisor, procfile"),
        (["a", "--from"], "--from needs a value"),
        (["a", "-o"], "-o needs a value"),
        (["a", "--what"], "unknown option '--what'"),
    ],
)
def test_wrong_words_are_told_with_the_usage(words, why, capsys):
    assert convert.main(words) == 2

    err = capsys.readouterr().err
    assert why in err
    assert err.endswith(f"{convert.USAGE}\n")


def test_a_file_that_is_not_there(capsys):
    assert convert.main(["/nonexistent/x", "--from", "supervisor"]) == 6
    assert capsys.readouterr().err == (
        "supervisord-pidfd: cannot read /nonexistent/x: no such file or directory\n"
    )


def test_a_directory_is_no_file(tmp_path, capsys):
    assert convert.main([str(tmp_path), "--from", "supervisor"]) == 6
    assert "is a directory" in capsys.readouterr().err


def test_a_file_that_is_not_what_it_claims(run):
    code, out, err = run("[program:x]\nwhat\n")

    assert (code, out) == (6, "")
    assert err == "supervisord-pidfd: s.conf:2: not OPTION = VALUE\n"


def test_names_of_files_cannot_write_to_the_terminal(run):
    code, out, err = run(PROGRAM, name="a\x1b[31m.conf")

    assert code == 0
    assert "\x1b" not in out + err
