"""Where logs go that are to go where they suit, told from what the daemon was started with."""

import os

import pytest

from supervisord_pidfd import host


@pytest.fixture(autouse=True)
def no_container(monkeypatch):
    """Be where no file says that this is a container, and where nobody reads descriptor 1."""
    monkeypatch.setattr(host, "_CONTAINER", ())
    monkeypatch.setattr(host.os, "isatty", lambda _fd: False)


def test_files_suit_a_daemon_of_which_nothing_is_known():
    assert host.suitable_sinks({}, pid1=False) == ("file",)


@pytest.mark.parametrize(("environ", "pid1"), [({}, True), ({"container": "podman"}, False)])
def test_standard_output_suits_a_container(environ, pid1):
    assert host.suitable_sinks(environ, pid1=pid1) == ("stdout",)


def test_standard_output_suits_where_a_file_says_that_it_is_a_container(monkeypatch):
    monkeypatch.setattr(host, "_CONTAINER", ("/nonexistent", "/"))

    assert host.suitable_sinks({}, pid1=False) == ("stdout",)


def test_standard_output_suits_a_terminal(monkeypatch):
    monkeypatch.setattr(host.os, "isatty", lambda fd: fd == 1)

    assert host.suitable_sinks({}, pid1=False) == ("stdout",)


def test_the_journal_suits_what_systemd_has_executed_or_connected_to_it():
    found = os.fstat(2)
    connected = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}", "container": "x"}

    assert host.suitable_sinks({"SYSTEMD_EXEC_PID": str(os.getpid())}, pid1=False) == ("journal",)
    assert host.suitable_sinks(connected, pid1=True) == ("journal",)


def test_variables_that_were_meant_for_somebody_else_say_nothing():
    inherited = {"JOURNAL_STREAM": "1:2", "SYSTEMD_EXEC_PID": str(os.getpid() + 1)}

    assert host.suitable_sinks(inherited, pid1=False) == ("file",)
