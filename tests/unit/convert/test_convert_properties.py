"""Whatever is converted, `check` finds no error in the result, and no value is told."""

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from supervisord_pidfd.convert.source import SourceError
from tests.support.config import load_text
from tests.support.converting import convert

ANYTHING = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"),
    max_size=20,
)
NUMBERS = st.integers(-2, 10**6).map(str) | st.sampled_from(["1", "08", "1e3", "99999999999999"])
FLAGS = st.sampled_from(["true", "false", "yes", "0", "unexpected", "auto", ""])
WORDS = st.sampled_from(
    ["/bin/sleep 9", "sh -c 'a && b'", "a 'b", "%(program_name)s", "%(process_num)02d", "/x y",
     "%(process_num)d", "%(ENV_PATH)s", "%(here)s/x", "%(no)s", "100%", "%%", "$A ${A} $$ $", "",
     "~/x", "AUTO", "NONE", "/dev/stdout", "syslog", "TERM", "0,2", "10MB", "root", "a\\b", '"']
)  # fmt: skip
PAIRS = st.lists(
    st.tuples(
        st.sampled_from("ABC"), st.sampled_from(["1", '"x,y"', "%(ENV_PATH)s", "'%%'", "$"])
    ),
    max_size=4,
).map(lambda pairs: ",".join(f"{key}={value}" for key, value in pairs))
VALUES = ANYTHING | NUMBERS | FLAGS | WORDS | PAIRS


def failures(text: str) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        problems = load_text(Path(folder), text).problems
    return [str(problem) for problem in problems if problem.severity == "error"]


def secrets_told(remarks: list[str]) -> list[str]:
    return [remark for remark in remarks if "hidden" in remark]


PROGRAM_OPTIONS = st.sampled_from(
    ["command", "process_name", "numprocs", "numprocs_start", "directory", "user", "umask",
     "priority", "autostart", "autorestart", "startsecs", "startretries", "exitcodes",
     "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup", "redirect_stderr",
     "stdout_logfile", "stderr_logfile", "stdout_logfile_maxbytes", "stderr_logfile_maxbytes",
     "stdout_logfile_backups", "stdout_syslog", "stderr_syslog", "stdout_events_enabled",
     "stdout_capture_maxbytes", "environment", "serverurl", "other"]
)  # fmt: skip
DAEMON_OPTIONS = st.sampled_from(
    ["logfile", "logfile_maxbytes", "logfile_backups", "loglevel", "pidfile", "umask", "nodaemon",
     "minfds", "minprocs", "childlogdir", "user", "directory", "strip_ansi", "environment",
     "identifier", "other"]
)  # fmt: skip
SECTIONS = st.one_of(
    st.tuples(
        st.sampled_from(["program:a", "program:b", "program:c.d", "program:all", "program:a-0"]),
        st.dictionaries(PROGRAM_OPTIONS, VALUES, max_size=6),
        st.sampled_from(["command=/bin/true\n", "command=w %(process_num)d\n", ""]),
    ),
    st.tuples(
        st.sampled_from(["group:g", "group:a", "group:all"]),
        st.fixed_dictionaries({"programs": st.sampled_from(["a", "a,b", "b,c.d", "x", ""])}),
        st.sampled_from(["", "priority=5\n"]),
    ),
    st.tuples(
        st.just("supervisord"), st.dictionaries(DAEMON_OPTIONS, VALUES, max_size=5), st.just("")
    ),
    st.tuples(
        st.just("inet_http_server"),
        st.fixed_dictionaries({"port": st.sampled_from(["127.0.0.1:9001", "*:9001", "x", ":1"])}),
        st.sampled_from(["", "password=hidden\n"]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(SECTIONS, max_size=5))
def test_check_has_no_error_in_what_became_of_a_supervisor_file(sections):
    text = "".join(
        f"[{name}]\n{first}" + "".join(f"{key}={value}\n" for key, value in options.items())
        for name, options, first in sections
    )
    try:
        result = convert(text, "supervisor")
    except SourceError:  # such as a value that begins like a section
        return

    assert failures(result.text) == []
    assert secrets_told(result.remarks) == []


LINES = st.tuples(st.sampled_from(["web", "all", "_x", "a-b", "-"]), WORDS | ANYTHING)


@settings(max_examples=100, deadline=None)
@given(st.lists(LINES, max_size=4))
def test_check_has_no_error_in_what_became_of_a_procfile(lines):
    try:
        result = convert("".join(f"{name}: {line}\n" for name, line in lines), "procfile")
    except SourceError:  # a name that comes twice, a line without a command
        return

    assert failures(result.text) == []
