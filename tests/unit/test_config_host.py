"""Facts of the host: mounts and accounts as data, paths in a temporary directory."""

import os
import pwd

import pytest

from supervisord_pidfd.config.host import (
    Accounts,
    Files,
    Found,
    NoSuchAccountError,
    parse_mounts,
    passes,
    read_mounts,
)
from supervisord_pidfd.core.spec import Identity

MOUNTINFO = """\
22 28 0:20 / /proc rw,nosuid shared:12 - proc proc rw
28 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 28 0:40 / /srv/a\\040b\\134c rw,relatime shared:3 master:1 - fuse.sshfs host: rw
41 28 0:41 / /mnt rw - autofs systemd-1 rw
42 41 0:42 / /mnt rw - nfs4 host:/x rw
garbage
"""


def test_mounts():
    assert parse_mounts(MOUNTINFO) == {
        "/proc": "proc",
        "/": "ext4",
        "/srv/a b\\c": "fuse.sshfs",
        "/mnt": "nfs4",
    }


def test_the_mounts_of_this_process_are_known():
    assert "/" in read_mounts()


def test_without_proc_there_are_no_mounts():
    assert read_mounts("/nonexistent/mountinfo") == {}


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/", True), ("/usr/bin/x", True), ("/proc/1", True), ("/mnt", False), ("/mnt/x", False),
        ("/mntx", True), ("/srv/a b\\c/y", False), ("/srv", True),
    ],
)  # fmt: skip
def test_the_mount_of_a_path_says_whether_it_is_local(path, local):
    assert Files(parse_mounts(MOUNTINFO), "/").is_local(path) is local


def test_without_mounts_nothing_is_local():
    assert not Files({}, "/").is_local("/usr")


# -- paths ----------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path):
    """Make a tree with a directory that stands for a filesystem that never answers."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "dead").mkdir()
    (tmp_path / "bin/tool").write_bytes(b"\x7fELF")
    (tmp_path / "bin/tool").chmod(0o755)
    (tmp_path / "bin/plain").write_bytes(b"text")
    (tmp_path / "bin/link").symlink_to("tool")
    (tmp_path / "bin/away").symlink_to("../dead/tool")
    (tmp_path / "bin/loop").symlink_to("loop")
    (tmp_path / "up").symlink_to("bin/../bin/./tool")
    return tmp_path


@pytest.fixture
def files(place):
    return Files({"/": "ext4", str(place / "dead"): "fuse.x"}, str(place))


def test_links_are_followed(files, place):
    assert files.resolve(str(place / "bin/link")) == str(place / "bin/tool")
    assert files.resolve("up") == str(place / "bin/tool")
    assert files.resolve("/") == "/"


@pytest.mark.parametrize("path", ["dead", "dead/x/y", "bin/away", "dead/../bin/tool", "a/" * 200])
def test_what_may_not_answer_is_not_asked(files, path):
    assert files.resolve(path) is None
    assert files.may_hang(path)
    assert not files.lies_local(path)
    assert files.is_directory(path) is None
    assert files.readable(path) is None


@pytest.mark.parametrize(
    ("path", "error"),
    [("gone", "ENOENT"), ("bin/loop", "ELOOP"), ("bin/tool/x", "ENOTDIR"), ("a\0b", "EINVAL")],
)
def test_what_is_not_there(files, path, error):
    with pytest.raises((OSError, ValueError)):
        files.resolve(path)
    assert not files.may_hang(path)
    assert not files.lies_local(path)
    assert files.is_directory(path) is False
    assert files.readable(path) == error


def test_directories(files):
    assert files.is_directory("bin") is True
    assert files.is_directory("bin/tool") is False


@pytest.mark.parametrize(
    ("path", "answer"),
    [("bin", True), ("bin/new/one", True), ("dead/log", True), ("bin/tool/log", False)],
)
def test_where_files_can_be_made(files, path, answer):
    assert files.takes_files(path) is answer


def test_a_root_that_may_not_answer():
    assert Files({"/": "nfs"}, "/").resolve("/") is None


# -- programs -------------------------------------------------------------------------------------


def test_a_program_is_found_in_path(files, place):
    tool = str(place / "bin/tool")

    assert files.program("tool", f"/nowhere:{place}/bin", None) == Found(tool, fast=True)


def test_a_relative_program_is_of_the_services_directory(files, place):
    assert files.program("./tool", "", str(place / "bin")).program == f"{place}/bin/./tool"
    assert files.program("bin/tool", "", None).program == f"{place}/bin/tool"


def test_empty_and_relative_elements_of_path_are_skipped(files):
    assert files.program("tool", ":bin:.", None).program is None


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("/gone", "ENOENT: no such file or directory"),
        ("bin", None),
        ("./bin", "EISDIR: it is a directory"),
        ("./bin/plain", "EACCES: it is not executable"),
        ("./bin/loop", "ELOOP: too many levels of symbolic links"),
        ("./pipe", "EACCES: it is not a regular file"),
        ("./\0", "EINVAL: invalid argument"),
    ],
)
def test_no_program(files, place, name, problem):
    os.mkfifo(place / "pipe")
    problem = problem or f"ENOENT: not found in PATH ({place}/dead/..)"

    assert files.program(name, f"{place}/dead/..", None).program is None
    if name != "bin":
        assert files.program(name, "", None) == Found(None, fast=False, problem=problem)


def test_not_found_in_path(files, place):
    problem = f"ENOENT: not found in PATH ({place})"

    assert files.program("tool", str(place), None) == Found(None, fast=False, problem=problem)


def test_one_that_cannot_be_executed_is_told_before_one_that_is_not_there(files, place):
    found = files.program("plain", f"{place}/bin:/nowhere:{place}/bin", None)

    assert found == Found(None, fast=False, problem="EACCES: it is not executable")


@pytest.mark.parametrize("name", ["./dead/tool", "tool"])
def test_a_program_on_a_dead_filesystem_is_left_to_the_child(files, place, name):
    assert files.program(name, f"{place}/dead:{place}/bin", None) == Found(None, fast=False)


@pytest.mark.parametrize(
    ("head", "fast"),
    [
        (b"#!/bin/sh\n", True),
        (b"#! {}/bin/tool -x\n", True),
        (b"#!{}/bin/script\n", False),
        (b"#!{}/dead/python\n", False),
        (b"#!{}/gone\n", False),
        (b"#!python\n", False),
        (b"#!\n", False),
        (b"#!/a\0b\n", False),
        (b"", True),
    ],
)
def test_the_interpreter_must_be_local_too(place, head, fast):
    files = Files({"/": "ext4", str(place / "dead"): "fuse.x"}, str(place))
    script = place / "bin/script"
    script.write_bytes(head.replace(b"{}", os.fsencode(place)))
    script.chmod(0o755)

    assert files.program("bin/script", "", None) == Found(str(script), fast=fast)


# -- accounts -------------------------------------------------------------------------------------


def test_an_account_by_name_and_by_number():
    root = pwd.getpwuid(0)
    accounts = Accounts()
    by_name = accounts.identity("root", None, None)

    assert by_name == accounts.identity("0", None, None)
    assert by_name[:2] == (0, root.pw_gid)
    assert by_name[3:] == ("root", root.pw_dir, root.pw_shell or "/bin/sh")
    assert root.pw_gid in by_name.groups


def test_a_number_without_an_account_is_nothing_but_itself():
    accounts = Accounts()

    assert accounts.identity("4200000000", None, None) == Identity(4200000000, 4200000000)
    assert accounts.identity("4200000000", "7", ("8",)) == Identity(4200000000, 7, (8,))


def test_a_group_replaces_that_of_the_user():
    assert Accounts().identity("root", "12345", ("1", "2")).gid == 12345
    assert Accounts().identity("root", "12345", ("12345", "2")).groups == (12345, 2)


def test_without_a_user_it_stays_the_daemons():
    identity = Accounts().identity(None, "12345", None)

    assert identity == Identity(os.getuid(), 12345, tuple(os.getgroups()))
    assert Accounts().identity(None, None, ("9",)) == Identity(os.getuid(), os.getgid(), (9,))


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("no such user", None, None), "user 'no such user'"),
        (("root", "no such group", None), "group 'no such group'"),
        (("root", None, ("no such group",)), "group 'no such group'"),
        (("99999999999", None, None), "user '99999999999'"),
        (("", None, None), "user ''"),
        (("a\0b", None, None), "user 'a\0b'"),
    ],
)
def test_an_unknown_account(arguments, text):
    accounts = Accounts()
    for _ in range(2):
        with pytest.raises(NoSuchAccountError) as caught:
            accounts.identity(*arguments)

        assert str(caught.value) == text


def test_globs_of_variables():
    assert passes("LC_ALL", ("LANG", "LC_*"))
    assert not passes("lang", ("LANG",))
