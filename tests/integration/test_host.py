"""Where logs go that are to go where they suit, told from what the daemon was started with."""

import os

import pytest

from supervisord_pidfd import host


def suitable(environ, *, pid1=False, terminal=False, signs=()):
    """Ask in a place where no file says that this is a container, unless a test says so."""
    return host.suitable_sinks(environ, pid1=pid1, terminal=terminal, signs=signs)


def test_files_suit_a_daemon_of_which_nothing_is_known():
    assert suitable({}) == ("file",)


@pytest.mark.parametrize(("environ", "pid1"), [({}, True), ({"container": "podman"}, False)])
def test_standard_output_suits_a_container(environ, pid1):
    assert suitable(environ, pid1=pid1) == ("stdout",)


def test_standard_output_suits_where_a_file_says_that_it_is_a_container():
    assert suitable({}, signs=("/nonexistent", "/")) == ("stdout",)


def test_standard_output_suits_a_terminal():
    assert suitable({}, terminal=True) == ("stdout",)


def test_the_journal_suits_what_systemd_has_executed_or_connected_to_it():
    found = os.fstat(2)
    connected = {"JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}", "container": "x"}

    assert suitable({"SYSTEMD_EXEC_PID": str(os.getpid())}, pid1=False) == ("journal",)
    assert suitable(connected, pid1=True) == ("journal",)


def test_variables_that_were_meant_for_somebody_else_say_nothing():
    inherited = {"JOURNAL_STREAM": "1:2", "SYSTEMD_EXEC_PID": str(os.getpid() + 1)}

    assert suitable(inherited, pid1=False) == ("file",)
