"""supervisord.conf, option by option."""

from pathlib import Path

import pytest

from supervisord_pidfd.convert import ini
from supervisord_pidfd.convert.expressions import Expressions
from supervisord_pidfd.convert.source import SourceError, read_text
from supervisord_pidfd.convert.text import Marks, NotConvertibleError
from tests.support.converting import convert


def program(lines, name="web"):
    text = f"[program:{name}]\n" + (lines if "command" in lines else f"command=/bin/true\n{lines}")
    return convert(text, "supervisor")


def without_command(table):
    return {key: value for key, value in table.items() if key != "command"}


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("autostart=false", {"autostart": False}),
        ("autostart=true", {}),
        ("autorestart=true", {"restart": "always"}),
        ("autorestart=False", {"restart": "no"}),
        ("autorestart=unexpected", {"restart": "on-failure"}),
        ("exitcodes=0,2", {"success_exit_codes": [0, 2]}),
        ("stopsignal=quit", {"stop_signal": "QUIT"}),
        ("stopsignal=SIGUSR2", {"stop_signal": "USR2"}),
        ("stopwaitsecs=90", {"stop_timeout": "1m30s"}),
        ("stopasgroup=true", {"stop": {"scope": "auto"}}),
        ("stopasgroup=false\nkillasgroup=true", {}),
        ("user=app", {"user": "app"}),
        ("user=1000", {"user": "1000"}),
        ("umask=027", {"umask": "027"}),
        ("directory=/srv/$x", {"directory": "/srv/$x"}),
        ("directory=%(here)s/data", {"directory": "/srv/app/data"}),
        ("directory=%(ENV_HOME)s/x", {"directory": "${HOME}/x"}),
        ("startsecs=5", {"ready": {"delay": "5s"}, "start_limit": {"interval": "24s"}}),
        ("startsecs=0", {}),
        ("startretries=5", {"start_limit": {"burst": 5, "interval": "23s"}}),
        ("serverurl=AUTO", {}),
        ("stdout_capture_maxbytes=0\nstdout_events_enabled=false", {}),
    ],
)
def test_an_option_becomes_a_key(lines, expected):
    result = program(lines)

    assert without_command(result["web"]) == expected
    assert result.lost == []


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("stdout_logfile=/l/a.log", {"to": ["file"], "path": "/l/a.log"}),
        ("stdout_logfile=AUTO", {"to": ["file"]}),
        ("stdout_logfile=/l/a\nstderr_logfile=/l/b",
         {"to": ["file"], "path": "/l/a", "stderr_path": "/l/b"}),
        ("stdout_logfile=/l/a\nstderr_logfile=/l/b\nredirect_stderr=true",
         {"to": ["file"], "path": "/l/a"}),
        ("stderr_logfile=/l/b", {"to": ["file"], "stderr_path": "/l/b"}),
        ("stdout_logfile=NONE\nstderr_logfile=none", {"to": ["null"]}),
        ("stdout_logfile=/dev/null\nredirect_stderr=true", {"to": ["null"]}),
        (("stdout_logfile=/dev/stdout\nstdout_logfile_maxbytes=0\nstderr_logfile=/dev/fd/2\n"
         "stderr_logfile_maxbytes=0"), {"to": ["stdout"], "format": "raw"}),
        ("stdout_logfile=syslog\nredirect_stderr=true", {"to": ["syslog"]}),
        ("stdout_syslog=true", {"to": ["syslog"]}),
        ("stdout_logfile=/l/a\nstdout_syslog=true", {"to": ["file", "syslog"], "path": "/l/a"}),
        ("stdout_logfile=/l/a\nstdout_logfile_maxbytes=10MB\nstdout_logfile_backups=3",
         {"to": ["file"], "path": "/l/a", "rotate_size": "10MiB", "rotate_keep": 3}),
        ("stdout_logfile=/l/a\nstdout_logfile_maxbytes=0",
         {"to": ["file"], "path": "/l/a", "rotate_size": 0}),
        ("stdout_logfile=/l/%(program_name)s.log", {"to": ["file"], "path": "/l/web.log"}),
    ],
)  # fmt: skip
def test_the_streams_go_where_they_went(lines, expected):
    result = program(lines)

    assert result["web"]["log"] == expected
    assert result.lost == []


@pytest.mark.parametrize(
    ("lines", "lost", "log"),
    [
        ("stdout_logfile=NONE\nstderr_logfile=/l/e", "stdout_logfile",
         {"to": ["file"], "path": "/l/e"}),
        ("stdout_logfile=/l/a\nstderr_logfile=NONE", "stderr_logfile",
         {"to": ["file"], "path": "/l/a"}),
        ("stdout_logfile=/dev/stdout\nstderr_logfile=/l/e", "stderr_logfile",
         {"to": ["stdout"], "format": "raw"}),
        ("stderr_logfile=/dev/stderr", "stderr_logfile", None),
        ("stderr_logfile=/dev/stderr\nstdout_syslog=true", "stderr_logfile", {"to": ["syslog"]}),
        (("stdout_logfile=/l/a\nstdout_logfile_maxbytes=1KB\nstderr_logfile=/l/e\n"
         "stderr_logfile_maxbytes=2KB"), "stderr_logfile_maxbytes",
         {"to": ["file"], "path": "/l/a", "stderr_path": "/l/e", "rotate_size": "1KiB"}),
    ],
)  # fmt: skip
def test_streams_that_cannot_be_kept_apart_are_told(lines, lost, log):
    result = program(lines)

    assert result.lost == [lost]
    assert result["web"].get("log") == log


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("autostart=perhaps", "neither true nor false"),
        ("autorestart=maybe", "neither true nor false"),
        ("exitcodes=0,300", "not a list of exit codes"),
        ("stopsignal=NOSUCH", "stop_signal: not a signal"),
        ("stopwaitsecs=-1", "not a whole number"),
        ("startretries=0", "restart"),
        ("startsecs=x", "not a whole number"),
        ("umask=999", "umask: not an octal mode"),
        ("umask=%(ENV_MASK)s", "a variable cannot stand here"),
        ("directory=%(nothing)s", "no %(nothing)s"),
        ("directory=100%", "a % that means nothing"),
        ("environment=A", "not a list of KEY=value"),
        ("environment=A='x", "no closing quotation"),
        ("stopasgroup=ja", "neither true nor false"),
        ("redirect_stderr=ja", "neither true nor false"),
        ("stdout_logfile_backups=many", "not a number"),
        ("stdout_events_enabled=true", "pidfdctl logs -f"),
        ("serverurl=http://localhost:9001", "control socket"),
        ("colour=blue", "no such option"),
    ],
)
def test_what_cannot_be_said_is_told_with_its_place_and_reason(line, why):
    result = program(line)
    name = line.partition("=")[0]

    assert result.lost == [name]
    assert without_command(result["web"]) == {}
    assert len(result.remarks) == 1
    assert result.remarks[0].startswith(
        f"/srv/app/supervisord.conf:3: not converted: [program:web] {name}: "
    )
    assert why in result.remarks[0]
    assert f"\n# not converted: {name} = " in result.text or name == "environment"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/srv/web --port 8080", "/srv/web --port 8080"),
        ("/srv/web 'a b' \"c\"", ["/srv/web", "a b", "c"]),
        ("/srv/web %(ENV_PORT)s", "/srv/web ${PORT}"),
        ("/srv/web --at=%(ENV_HOST)s:80", "/srv/web --at=${HOST}:80"),
        ("/srv/web $HOME ${X} a$ $$", ["/srv/web", "$HOME", "$${X}", "a$$", "$$$$"]),
        ("/srv/%(program_name)s 100%%", "/srv/web 100%"),
        ("/bin/sh -c 'a && b > c'", ["/bin/sh", "-c", "a && b > c"]),
        ("/srv/web ; a comment", "/srv/web"),
        ("/srv/web;b", ["/srv/web;b"]),
        ("/srv/web\n  --port 1\n  --x", "/srv/web --port 1 --x"),
    ],
)
def test_a_command_is_split_as_supervisor_does(line, expected):
    assert program(f"command={line}")["web"]["command"] == expected


@pytest.mark.parametrize("line", ["command=a 'b", "command=", "command=%(oops)s", "command='' x"])
def test_a_program_without_a_usable_command_is_left_out(line):
    result = program(line + "\nuser=app")

    assert "service" not in result.data
    assert "command" in result.lost


def test_a_program_without_a_command_is_left_out():
    result = convert("[program:web]\nuser=app\n", "supervisor")

    assert "service" not in result.data
    assert result.remarks == [
        "/srv/app/supervisord.conf:1: not converted: [program:web]: it has no command"
    ]


def test_variables_keep_their_quotes_and_commas():
    result = program(
        'environment=A="1,2",B=\'x "y"\',C=%(ENV_PATH)s:/opt,D="100%%",E="$HOME ${F}"'
    )

    assert result["web"]["environment"] == {
        "A": "1,2", "B": 'x "y', "C": "${PATH}:/opt", "D": "100%", "E": "$HOME $${F}",
    }  # fmt: skip
    assert result.lost == []


def test_a_variable_may_take_in_its_outer_self():
    result = program('environment=PATH="/opt/bin:%(ENV_PATH)s"')

    assert result["web"]["environment"] == {"PATH": "/opt/bin:${PATH}"}


def test_variables_that_would_name_each_other_are_told():
    result = program('environment=A="%(ENV_B)s",B="%(ENV_A)s",C="c"')

    assert result["web"]["environment"] == {"C": "c"}
    assert result.lost == ["environment", "environment"]


def test_values_of_the_environment_are_told_to_nobody():
    result = program('environment=A="hidden-%(ENV_B)s",B="hidden",C')

    assert result.lost == ["environment"]
    assert "hidden" not in "".join(result.remarks)


@pytest.mark.parametrize(
    ("lines", "instances", "command"),
    [
        ("numprocs=3\nprocess_name=%(program_name)s_%(process_num)d", 3, "w ${service.instance}"),
        ("numprocs=2\nprocess_name=%(program_name)s_%(process_num)02d", ["00", "01"], None),
        ("numprocs=2\nnumprocs_start=8\nprocess_name=x%(process_num)d", ["8", "9"], None),
        ("numprocs=1\nprocess_name=%(process_num)s", None, "w 0"),
        ("numprocs=1\nnumprocs_start=7", None, "w 7"),
    ],
)
def test_copies_are_named_as_their_numbers_were_written(lines, instances, command):
    shape = "02d" if instances == ["00", "01"] else "s"
    result = program(f"command=w %(process_num){shape}\n{lines}")

    assert result["web"].get("instances") == instances
    assert result["web"]["command"] == (command or "w ${service.instance}")
    assert result.lost == []


def test_numbers_written_in_two_ways_make_services_of_their_own():
    result = program("command=w --port 80%(process_num)02d --id %(process_num)d\nnumprocs=2")

    assert result["web-0"]["command"] == "w --port 8000 --id 0"
    assert result["web-1"]["command"] == "w --port 8001 --id 1"
    assert result.data["group"]["web"]["services"] == ["web-0", "web-1"]


def test_more_processes_than_anybody_has_are_told():
    assert program("numprocs=100000").lost == ["numprocs"]


def test_what_supervisor_does_by_default_stands_in_the_defaults():
    assert program("")["web"] == {"command": "/bin/true"}
    assert program("").data["defaults"] == {
        "success_signals": [], "stop": {"scope": "mixed"}, "backoff": {"delay": "1s"},
        "start_limit": {"burst": 3, "interval": "8s"},
    }  # fmt: skip


ORDER = """
[program:c]
command=c
[program:a]
command=a
priority=1
[program:b]
command=b
priority=1
"""


def test_priorities_become_an_order():
    result = convert(ORDER, "supervisor")

    assert result["c"]["after"] == ["a:started", "b:started"]
    assert "after" not in result["a"]
    assert "after" not in result["b"]


def test_the_priority_of_a_group_counts_before_that_of_its_programs():
    result = convert(f"{ORDER}[group:late]\nprograms=a\npriority=2000\n", "supervisor")

    assert result["c"]["after"] == ["b:started"]
    assert result["a"]["after"] == ["c:started"]


def test_an_order_of_very_many_is_left_out():
    many = "".join(f"[program:p{at}]\ncommand=p\npriority={at % 2}\n" for at in range(80))
    result = convert(many, "supervisor")

    assert result.lost == ["priority"] * 80


def test_groups_name_their_services():
    result = convert(f"{ORDER}[group:x]\nprograms=a, b,nobody\n", "supervisor")

    assert result.data["group"] == {"x": {"services": ["a", "b"]}}
    assert result.remarks == [
        "/srv/app/supervisord.conf:10: not converted: [group:x]: no program nobody was converted"
    ]


def test_a_program_is_in_one_group_at_most():
    text = f"{ORDER}[group:x]\nprograms=a\n[group:y]\nprograms=a,b\n[group:z]\nprograms=a\n"
    result = convert(text, "supervisor")

    assert result.data["group"] == {"x": {"services": ["a"]}, "y": {"services": ["b"]}}
    assert result.lost == ["[group:y]", "[group:z]"]


def test_names_that_are_none_here_are_changed_and_told():
    text = "[program:a.b]\ncommand=x\n[program:a-b]\ncommand=y\n[program:all]\ncommand=z\n"
    result = convert(text, "supervisor")

    assert {name: one["command"] for name, one in result.data["service"].items()} == {
        "a-b": "x", "a-b-2": "y", "all-2": "z",
    }  # fmt: skip
    assert len(result.remarks) == 3
    assert result.lost == []


@pytest.mark.parametrize(
    ("lines", "table", "expected"),
    [
        ("logfile=/l/s.log\nlogfile_maxbytes=5MB\nlogfile_backups=2\nloglevel=warn", "supervisor",
         {"log": {"to": ["file"], "path": "/l/s.log", "rotate_size": "5MiB", "rotate_keep": 2,
                  "level": "warning"}}),
        ("logfile=/dev/stdout\nloglevel=blather", "supervisor",
         {"log": {"to": ["stdout"], "level": "debug"}}),
        ("logfile=none", "supervisor", {"log": {"to": ["null"]}}),
        ("logfile=syslog", "supervisor", {"log": {"to": ["syslog"]}}),
        ("childlogdir=%(here)s/log", "supervisor", {"log_dir": "/srv/app/log"}),
        ("umask=077", "defaults", {"umask": "077"}),
        ("user=www", "defaults", {"user": "www"}),
        ("user=root", "defaults", {}),
        ("directory=/srv", "defaults", {"directory": "/srv"}),
        ("strip_ansi=true", "defaults", {"log": {"strip_ansi": True}}),
        ("strip_ansi=false\nnodaemon=true\nnocleanup=true\nidentifier=supervisor", "defaults", {}),
        ("minfds=1024\nminprocs=200", "defaults", {}),
        ("minfds=65536", "defaults", {"limits": {"nofile": 65536}}),
        ("environment=A=1", "defaults", {"environment": {"A": "1"}}),
    ],
)  # fmt: skip
def test_the_daemons_own_options(lines, table, expected):
    result = convert(f"[supervisord]\n{lines}\n[program:web]\ncommand=x\n", "supervisor")
    found = result.data.get(table, {})
    for usual in ("success_signals", "stop", "backoff", "start_limit"):
        found.pop(usual, None)

    assert found == expected
    assert result.lost == []


@pytest.mark.parametrize(
    "line",
    ["pidfile=/run/x.pid", "identifier=mine", "loglevel=loud", "logfile_maxbytes=big",
     "logfile_backups=few", "strip_ansi=ja", "minfds=x", "colour=blue", "umask=%(ENV_U)s"],
)  # fmt: skip
def test_the_daemons_options_that_have_no_counterpart(line):
    assert convert(f"[supervisord]\n{line}\n", "supervisor").lost == [line.partition("=")[0]]


def test_what_a_service_sets_is_not_taken_in_by_the_defaults():
    text = (
        "[supervisord]\nenvironment=A=%(ENV_B)s\n[program:x]\ncommand=x\nenvironment=B=%(ENV_A)s\n"
    )
    result = convert(text, "supervisor")

    assert "environment" not in result.data["defaults"]
    assert result.lost == ["environment"]


@pytest.mark.parametrize(
    "section",
    ["[eventlistener:x]\ncommand=x\n", "[fcgi-program:x]\nsocket=tcp://localhost:1\ncommand=x\n",
     "[ctlplugin:x]\na=b\n", "[weather]\nsun=yes\n"],
)  # fmt: skip
def test_sections_without_a_counterpart(section):
    result = convert(section, "supervisor")

    assert result.lost == [section.partition("\n")[0]]
    assert "service" not in result.data


def test_sections_that_need_none():
    text = (
        "[unix_http_server]\nfile=/run/s.sock\nchmod=0700\nusername=u\npassword=pw-123\n"
        "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = x\n"
        "[supervisorctl]\nserverurl=unix:///run/s.sock\npassword=pw-456\n"
    )
    result = convert(text, "supervisor")

    assert result.lost == []
    assert "pw-" not in result.text + "".join(result.remarks)


def test_a_password_of_the_web_server_is_shown_to_nobody():
    text = "[inet_http_server]\nport=127.0.0.1:9001\nusername=u-1\npassword=pw-123\n"
    result = convert(text, "supervisor")

    assert "password" in result.lost
    assert "port" in result.lost
    assert "pw-" not in result.text + "".join(result.remarks)
    assert "u-1" not in result.text + "".join(result.remarks)


@pytest.mark.parametrize("port", ["*:9001", "9001", "10.0.0.1:9001", ":9001"])
def test_a_web_server_for_everybody_is_left_out(port):
    assert convert(f"[inet_http_server]\nport={port}\n", "supervisor").lost == ["port"]


# -- the file -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "why"),
    [
        ("a = b\n", 1, "no section"),
        ("; fine\n[program:x]\nnonsense\n", 3, "not OPTION = VALUE"),
        ("[program:x]\n= y\n", 2, "not OPTION = VALUE"),
    ],
)
def test_a_line_that_is_nothing_is_told_with_its_place(text, line, why):
    with pytest.raises(SourceError, match=rf"^f\.conf:{line}: {why}"):
        ini.parse(text, "f.conf")


def test_lines_are_read_as_configparser_reads_them():
    text = """\
# a comment
[A]  ; behind it
One: 1 ; comment
two=a;b # c
  ; a comment within
  more
three =
[B]
x=1
[A]
TWO=z
"""
    first, second = ini.parse(text, "f.conf")

    assert {name: option.value for name, option in first.options.items()} == {
        "one": "1", "two": "z", "three": "",
    }  # fmt: skip
    assert first.options["two"].place == "f.conf:11"
    assert second.options["x"].within == "B"


def test_a_value_goes_on_in_deeper_lines():
    (section,) = ini.parse("[a]\nx=1\n  2\n\n  3=4\ny=5\n", "f")

    assert section.options["x"].value == "1\n2\n3=4"
    assert section.options["y"].value == "5"


def test_included_files_are_part_of_it(tmp_path):
    main = tmp_path / "supervisord.conf"
    main.write_text(
        "[include]\nfiles = conf.d/*.conf %(here)s/missing.conf\n[program:a]\ncommand=a\n"
    )
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/2.conf").write_text(
        "[program:b]\ncommand=%(here)s/b\n[include]\nfiles=x\n"
    )
    (tmp_path / "conf.d/1.conf").write_text("[program:a]\nuser=u\n")
    result = convert(main.read_text(), "supervisor", main)

    assert result["a"] == {"command": "a", "user": "u"}
    assert result["b"] == {"command": f"{tmp_path}/conf.d/b"}


def test_an_included_file_that_is_no_text_is_an_error(tmp_path):
    (tmp_path / "x.conf").write_bytes(b"[a]\n\xff")

    with pytest.raises(SourceError, match=r"x\.conf:2: not UTF-8"):
        convert("[include]\nfiles=x.conf\n", "supervisor", tmp_path / "s.conf")


@pytest.mark.parametrize(
    ("content", "why"),
    [(b"a\0", ":1: a NUL"), (b"\xef\xbb\xbfok", None), (b"x" * ((1 << 20) + 1), "larger than")],
)
def test_files_that_are_no_text_are_refused(tmp_path: Path, content, why):
    file = tmp_path / "f"
    file.write_bytes(content)
    if why is None:
        assert read_text(str(file)) == "ok"
        return
    with pytest.raises(SourceError, match=why):
        read_text(str(file))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%(x)s %(n)03d %%", "ex 007 %"),
        ("%(process_num)d", "4"),
    ],
)
def test_expressions_are_filled_in(text, expected):
    assert Expressions({"x": "ex", "n": 7}, 4).expand(text, Marks(text)) == expected


@pytest.mark.parametrize("text", ["%", "%d", "%(x)", "%(x)d", "%(ENV_A-B)s", "%(ENV_A)d"])
def test_expressions_that_mean_nothing_are_refused(text):
    with pytest.raises(NotConvertibleError):
        Expressions({"x": "ex"}).expand(text, Marks(text))


def test_marks_never_occur_in_the_text_itself():
    text = "mark0x markk1x"
    marks = Marks(text)
    mark = marks.add("${A}")

    assert marks.fill(f"{text} {mark}") == f"{text} ${{A}}"
