"""What `convert` makes of real files runs as it did."""

import pytest

pytestmark = pytest.mark.once

SUPERVISOR = """\
[supervisord]
nodaemon = true
environment = GREETING="hello, you"

[program:first]
command = /bin/sh {home}/first.sh "%(program_name)s & co" $HOME ${{X}}
environment = NAME="%(ENV_USER_OF_TEST)s",PATH="%(ENV_PATH)s:/opt/none"
priority = 1
stopsignal = USR1
redirect_stderr = true
stdout_logfile = {home}/first.log

[program:worker]
command = /bin/sh -c 'echo worker %(process_num)02d > {board}; echo written; exec sleep 1000'
process_name = %(program_name)s_%(process_num)02d
numprocs = 2
numprocs_start = 4
stdout_logfile = {home}/%(program_name)s-%(process_num)02d.log

[program:task]
command = /bin/sh -c 'exit 3'    ; which is fine
autorestart = unexpected
exitcodes = 0,3
startsecs = 0
stdout_logfile = NONE
stderr_logfile = NONE

[program:broken]
command = /bin/sh -c 'exit 1'
autorestart = false

[group:both]
programs = first,worker
"""
FIRST = """\
trap 'echo bye >{board}; exit 0' USR1
echo "$1|$2|$3|$GREETING|$NAME|$PATH" >{board}
echo out; echo err >&2
sleep 1000 &
wait
"""


def converted(daemon, path, *words):
    done = daemon.run("convert", str(path), "--strict", *words)
    assert (done.returncode, done.stderr.count("\n")) == (0, 1), done.stderr
    return done.stdout


def test_a_supervisor_file(daemon, board, tmp_path):
    places = {"board": board, "home": tmp_path}
    (tmp_path / "first.sh").write_text(FIRST.format(**places))
    (tmp_path / "supervisord.conf").write_text(SUPERVISOR.format(**places))
    text = converted(daemon, tmp_path / "supervisord.conf")
    daemon.start(text, env={"USER_OF_TEST": "me"})
    said = {board.line() for _ in range(3)}
    ended = daemon.wait_for("service.exited", service="task")
    daemon.wait_for("service.gave_up", service="broken")

    path = daemon.environment()["PATH"]
    assert said == {
        "worker 04", "worker 05",
        f"first & co|$HOME|${{X}}|hello, you|me|{path}:/opt/none",
    }  # fmt: skip
    assert (ended["cause"], ended["exit_code"]) == ("success", 3)
    assert daemon.stop() == 0
    assert board.line() == "bye"
    assert (tmp_path / "first.log").read_text() == "out\nerr\n"
    assert (tmp_path / "worker-05.log").read_text() == "written\n"
    spawned = [event["service"] for event in daemon.told("service.spawned")]
    assert spawned.index("first") < spawned.index("worker@04")


PROCFILE = """\
web: sh web.sh $PORT "${{GREETING}}"
worker: echo worker $PORT >{board} && exec sleep 1000
"""


def test_a_procfile(daemon, board, tmp_path):
    (tmp_path / "app").mkdir()
    (tmp_path / "app/Procfile").write_text(PROCFILE.format(board=board))
    (tmp_path / "app/.env").write_text("PORT=7000\nGREETING='hello, you'\n")
    (tmp_path / "app/web.sh").write_text(f'echo "$1|$2" >{board}; exec sleep 1000\n')
    daemon.start(converted(daemon, tmp_path / "app/Procfile"))

    assert {board.line(), board.line()} == {"7000|hello, you", "worker 7100"}
    assert daemon.stop() == 0
