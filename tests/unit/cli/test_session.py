"""What goes wrong between the client and the daemon, in words, codes and JSON."""

import errno
import os

import pytest

from supervisord_pidfd.cli.session import default_socket
from supervisord_pidfd.errors import NoAnswerError
from tests.support.scripted import VARLINK, Scripted, error

SYSTEM = "/run/supervisord-pidfd/control.sock"


def refusing(number):
    daemon = Scripted()
    daemon.refuses = number
    return daemon


@pytest.mark.parametrize(
    ("number", "why"),
    [
        (errno.ENOENT, "no such file"),
        (errno.ECONNREFUSED, "connection refused"),
        (errno.ENOTSOCK, "not a socket"),
        (errno.ENOTDIR, "not a directory"),
    ],
)
def test_nobody_listens(pidfdctl, number, why):
    ran = pidfdctl(refusing(number))

    assert ran.code == 7
    assert ran.err == (
        f"pidfdctl: cannot reach the daemon at {SYSTEM}: {why}\n"
        "          is it running?  systemctl status supervisord-pidfd\n"
    )


def test_nobody_listens_at_another_socket(pidfdctl):
    ran = pidfdctl(refusing(errno.ENOENT), "-s", "/x/y.sock", "start", "web", "--json")

    assert ran.code == 7
    assert ran.json["error"]["name"] == "Unreachable"
    assert ran.json["error"]["parameters"] == {"path": "/x/y.sock", "reason": "no such file"}
    assert "at /x/y.sock: no such file\n" in ran.err
    assert "systemctl" not in ran.err


def test_we_may_not_connect(pidfdctl):
    ran = pidfdctl(refusing(errno.EACCES), "-s", "/nonexistent", "restart", "web")

    assert ran.code == 8
    assert ran.err == (
        "pidfdctl: cannot restart 'web': permission denied"
        f" (needs root; you are uid {os.geteuid()})\n"
    )


def test_we_may_not_call(pidfdctl):
    denied = error(f"{VARLINK}.PermissionDenied")
    ran = pidfdctl(Scripted(Restart=[denied]), "restart", "web")

    assert ran.code == 8
    assert ran.err == (
        "pidfdctl: cannot restart 'web': permission denied"
        f" (needs root or uid 990; you are uid {os.geteuid()})\n"
    )


def test_an_unknown_name_with_a_suggestion(pidfdctl):
    unknown = error("NoSuchService", name="wb", suggestion="web")
    ran = pidfdctl(Scripted(Start=[unknown]), "start", "wb", "db")

    assert ran == (4, "", "pidfdctl: cannot start 'wb': no such service (did you mean 'web'?)\n")


def test_an_unknown_name_without_one(pidfdctl):
    unknown = error("NoSuchService", name="x\x1b[2J", suggestion=None)
    ran = pidfdctl(Scripted(Stop=[unknown]), "stop", "x")

    assert ran.err == (
        "pidfdctl: cannot stop 'x\\x1b[2J': no such service (pidfdctl status lists them)\n"
    )


def test_an_error_as_json(pidfdctl):
    unknown = error("NoSuchService", name="wb", suggestion="web")
    ran = pidfdctl(Scripted(Start=[unknown]), "--json", "start", "wb")

    assert ran.json == {
        "format": 1,
        "error": {
            "name": "NoSuchService",
            "message": "cannot start 'wb': no such service (did you mean 'web'?)",
            "parameters": {"name": "wb", "suggestion": "web"},
        },
    }
    assert ran.err == "pidfdctl: cannot start 'wb': no such service (did you mean 'web'?)\n"


def test_a_parameter_that_the_daemon_does_not_take_is_a_usage_error(pidfdctl):
    wrong = error(f"{VARLINK}.InvalidParameter", parameter="names")
    ran = pidfdctl(Scripted(Start=[wrong]), "start", "a*", "b*")

    assert ran.code == 2
    assert (
        ran.err == "pidfdctl: cannot start 'a*', 'b*': the daemon does not accept this 'names'\n"
    )


def test_a_long_list_of_names_is_cut(pidfdctl):
    refused = error("Refused", reason="shutting_down", message="the daemon is shutting down")
    ran = pidfdctl(Scripted(Start=[refused]), "start", *"abcdefg")

    assert ran.err == (
        "pidfdctl: cannot start 'a', 'b', 'c' and 4 more: the daemon is shutting down\n"
    )


def test_all_services_in_words(pidfdctl):
    refused = error("Refused", reason="shutting_down", message="the daemon is shutting down")
    ran = pidfdctl(Scripted(Start=[refused]), "start", "--all")

    assert ran.err == "pidfdctl: cannot start all services: the daemon is shutting down\n"


def test_a_method_of_a_later_version(pidfdctl):
    ran = pidfdctl(Scripted(), "logs", "web")

    assert ran.code == 1
    assert ran.err == (
        "pidfdctl: cannot show the log of 'web': not available in this version of the daemon\n"
    )


def test_an_error_that_we_do_not_know_is_told_as_it_is(pidfdctl):
    ran = pidfdctl(Scripted(Explain=[error("com.example.Odd", depth=3)]), "explain", "web")

    assert ran.err == "pidfdctl: cannot explain 'web': com.example.Odd depth=3\n"


def test_no_answer(pidfdctl):
    ran = pidfdctl(Scripted(Show=[NoAnswerError("no answer within 10s")]), "show", "web")

    assert ran.code == 7
    assert ran.err == (
        f"pidfdctl: cannot show 'web': no answer within 10s (is the daemon at {SYSTEM} well?)\n"
    )


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_health_is_1_also_if_nobody_can_be_asked(pidfdctl, number):
    assert pidfdctl(refusing(number), "health").code == 1


def test_which_socket(tmp_path):
    own = tmp_path / "supervisord-pidfd/control.sock"
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}

    assert default_socket({}) == SYSTEM
    assert default_socket(environment) == SYSTEM
    own.parent.mkdir()
    own.touch()
    assert default_socket(environment) == str(own)
    assert default_socket({**environment, "PIDFDCTL_SOCKET": "/x"}) == "/x"
    assert default_socket({"XDG_RUNTIME_DIR": "relative"}) == SYSTEM
