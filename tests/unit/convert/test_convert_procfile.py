"""A Procfile, line by line."""

import pytest

from supervisord_pidfd.convert.source import SourceError
from tests.support.converting import convert


def of(line):
    return convert(f"web: {line}\n", "procfile")["web"]["command"]


@pytest.mark.parametrize(
    "line", ["bin/web", "bundle exec puma -C config/puma.rb", "python3 -m http.server 8080"]
)
def test_plain_words_need_no_shell(line):
    assert of(line) == line


@pytest.mark.parametrize(
    ("line", "script"),
    [
        ("bin/web -p $PORT", "exec bin/web -p $PORT"),
        ("bin/web -p ${PORT:-1}", "exec bin/web -p ${PORT:-1}"),
        ('bin/web "a b"', 'exec bin/web "a b"'),
        ("bin/web *.txt", "exec bin/web *.txt"),
        ("A=1 bin/web", "A=1 bin/web"),
        ("cd x && bin/web", "cd x && bin/web"),
        ("bin/a | bin/b", "bin/a | bin/b"),
        ("bin/web > log", "bin/web > log"),
        ("exec bin/web $X", "exec bin/web $X"),
        ("bin/web 'open", "bin/web 'open"),
        ("~/bin/web", "~/bin/web"),
    ],
)
def test_all_else_is_given_to_a_shell(line, script):
    command = of(line)

    assert command[:2] == ["/bin/sh", "-c"]
    assert command[2].replace("$${", "${") == script


def test_a_variable_of_the_script_is_none_of_ours():
    assert of("w ${PORT} $PORT $$")[2] == "exec w $${PORT} $PORT $$$$"


def test_each_process_has_its_hundred_ports_and_the_directory_of_the_file():
    result = convert("# two\nweb: a\n\nworker : b\n", "procfile")

    assert result["web"]["environment"] == {"PORT": "5000"}
    assert result["worker"] == {"command": "b", "environment": {"PORT": "5100"}}
    assert result.data["defaults"] == {"directory": "/srv/app"}
    assert result.lost == []


def test_variables_beside_the_file_are_taken_in(tmp_path):
    (tmp_path / ".env").write_text("PORT=8000\nA=b\n")
    result = convert("web: a\nb: c\n", "procfile", tmp_path / "Procfile")

    assert result.data["defaults"]["environment_file"] == [f"{tmp_path}/.env"]
    assert result["web"]["environment"] == {"PORT": "8000"}
    assert result["b"]["environment"] == {"PORT": "8100"}


def test_variables_that_cannot_be_read_are_told(tmp_path):
    (tmp_path / ".env").write_text("what is this?\n")
    result = convert("web: a\n", "procfile", tmp_path / "Procfile")

    assert result.lost == [".env"]
    assert "line 1 is not KEY=VALUE" in result.remarks[0]
    assert "environment_file" not in result.data["defaults"]


def test_a_name_that_is_none_here_is_changed_and_told():
    result = convert("_x: a\nall: b\n", "procfile")

    assert [one["command"] for one in result.data["service"].values()] == ["a", "b"]
    assert len(result.remarks) == 2


@pytest.mark.parametrize(
    ("text", "place"),
    [("web: a\nnonsense\n", 2), ("web:\n", 1), ("web: a\nweb: b\n", 2), ("a b: c\n", 1)],
)
def test_a_line_that_is_nothing_is_told_with_its_place(text, place):
    with pytest.raises(SourceError, match=f"^/srv/app/Procfile:{place}: "):
        convert(text, "procfile")
