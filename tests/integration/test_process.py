"""Both ways to start a program: what the program finds, and what is said when it cannot start."""

import fcntl
import os
import pty
import resource
import select
import signal
import sys
from pathlib import Path

import pytest

from supervisord_pidfd import sysabi
from supervisord_pidfd.core.exitstatus import Exited, Signaled
from supervisord_pidfd.core.spec import Identity, LogSpec, Output, ResourceLimit, StartFault
from supervisord_pidfd.process import (
    PASSED_FD,
    Provision,
    Recipe,
    SpawnError,
    environment_of,
    read_report,
)
from supervisord_pidfd.signals import IGNORED, RTMIN
from tests.support.world import DEADLINE_S, SH, World, program, specify, wait_dead

NOBODY = Identity(65534, 65533, (65532, 65531), "nobody", "/nonexistent", "/bin/false")
AS_ROOT = pytest.mark.root


def passing(fd):
    return Provision(descriptors=((PASSED_FD, fd),))


@pytest.fixture
def world():
    it = World("sigchld")
    yield it
    it.close()


@pytest.fixture(params=[True, False], ids=["posix_spawn", "fork"])
def fast(request):
    return request.param


class Stage:
    """Starts programs and tells what became of them."""

    def __init__(self, world, capfd):
        self.world = world
        self._capfd = capfd

    def attempt(self, *argv, **members):
        """Start; return what stood in the way, or how the program ended."""
        recipe = Recipe(specify(*argv, **members), self.world.host, passing(self.world.announce))
        try:
            launched = recipe.spawn(1)
        except SpawnError as error:
            return error
        child = self.world.watch(launched.pid)
        said = True if launched.report is None else self.said(launched.report)
        status = self.world.exit_of(child).status
        if said is True:
            return status
        assert status == Exited(127)
        return said

    @staticmethod
    def said(report):
        poll = select.poll()
        poll.register(report, 0)
        assert poll.poll(DEADLINE_S * 1000), "the error pipe stays open"
        said = read_report(report)
        os.close(report)
        return said

    def output(self, *argv, **members):
        """Run a program that must succeed, and return what it wrote."""
        status = self.attempt(*argv, **members)
        out, err = self._capfd.readouterr()
        assert status == Exited(0), (status, err)
        return out

    def sh(self, script, **members):
        return self.output(SH, "-c", script, **members)


@pytest.fixture
def stage(world, capfd):
    return Stage(world, capfd)


def far(fd, at):
    """Copy a descriptor to a number beyond."""
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, at)


def facts(error):
    assert isinstance(error, SpawnError), error
    return error.stage, error.subject, error.error


# -- what cannot be started -----------------------------------------------------------------------


def file_of(path, text, mode):
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


@pytest.mark.parametrize(
    ("it", "error"),
    [
        ((b"#!/bin/sh\n", 0o644), "EACCES"),
        ((b"", 0o755), "ENOEXEC"),
        ((b"no format that a kernel knows\n", 0o755), "ENOEXEC"),
        ((b"#!/no/such/interpreter\n", 0o755), "ENOENT"),
    ],
    ids=["no permission", "empty", "no format", "no interpreter"],
)
def test_a_file_that_is_no_program_is_named_with_its_errno(stage, fast, tmp_path, it, error):
    name = file_of(tmp_path / "it", *it)

    assert facts(stage.attempt(name, fast=fast)) == ("exec", name, error)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("/nonexistent", "ENOENT"),
        ("/etc", "EACCES"),
        ("/dev/null/x", "ENOTDIR"),
        ("/" + "x" * 300, "ENAMETOOLONG"),
    ],
)
def test_a_path_without_a_program_is_named_with_its_errno(stage, fast, name, error):
    assert facts(stage.attempt(name, fast=fast)) == ("exec", name, error)


def test_too_long_a_command_line_is_e2big(stage, fast):
    assert facts(stage.attempt("/bin/true", "x" * 200_000, fast=fast))[2] == "E2BIG"


def test_a_nul_byte_is_an_error_and_not_a_crash(stage, fast):
    error = stage.attempt("/bin/true", "a\0b", fast=fast)

    assert facts(error)[:2] == ("exec", "/bin/true")


def test_a_link_that_leads_nowhere_is_eloop(stage, fast, tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert facts(stage.attempt(str(loop), fast=fast)) == ("exec", str(loop), "ELOOP")


def test_a_fault_of_the_configuration_fails_every_start(stage):
    fault = StartFault("user", "www", "no such user")

    assert facts(stage.attempt("/bin/true", fault=fault)) == ("user", "www", "no such user")


@pytest.mark.parametrize(
    ("members", "stage_name", "subject", "error"),
    [
        ({"directory": "/nonexistent"}, "directory", "/nonexistent", "ENOENT"),
        ({"directory": "/etc/passwd"}, "directory", "/etc/passwd", "ENOTDIR"),
        ({"stdin": "file:/nonexistent"}, "stdio", "/nonexistent", "ENOENT"),
        ({"stdin": "file:/dev/null"}, "stdio", "/dev/null", "EINVAL"),
        ({"cpu_affinity": (9999,)}, "scheduling", "cpu_affinity", "EINVAL"),
    ],
)
def test_each_stage_names_itself(stage, members, stage_name, subject, error):
    assert facts(stage.attempt("/bin/true", **members)) == (stage_name, subject, error)


def test_stdin_from_a_fifo_is_refused_and_does_not_hang(stage, tmp_path):
    fifo = str(tmp_path / "fifo")
    os.mkfifo(fifo)

    assert facts(stage.attempt("/bin/true", stdin=f"file:{fifo}")) == ("stdio", fifo, "EINVAL")


def test_without_a_descriptor_for_the_error_pipe_the_start_fails(world):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(SpawnError) as caught:
            world.launch("/bin/true", fast=False)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert facts(caught.value) == ("fork", "error pipe", "EMFILE")


AS_NOBODY = """
import os, resource, sys
sys.path.insert(0, {root!r})
from supervisord_pidfd.core.spec import Identity, ResourceLimit, ServiceSpec
from supervisord_pidfd.process import Host, Recipe, SpawnError, read_report
import select
spec = ServiceSpec("test", ("/bin/true",), program="/bin/true", fast={fast}, {members})
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(64123, 64123, 64123)
{prepare}
recipe = Recipe(spec, Host({{}}, os.open("/dev/null", os.O_RDWR), 64, 4096))
try:
    launched = recipe.spawn(1)
except SpawnError as error:
    said = error
else:
    poll = select.poll()
    poll.register(launched.report, 0)
    poll.poll(20000)
    said = read_report(launched.report)
    os.waitpid(launched.pid, 0)
os.write(3, f"{{said.stage}} {{said.subject}} {{said.error}}\\n".encode())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("members", "prepare", "fast", "expected"),
    [
        (
            "limits=(ResourceLimit('core', 10, 1 << 40),)",
            "resource.setrlimit(resource.RLIMIT_CORE, (0, 100))",
            False,
            ["limits", "core", "EPERM"],
        ),
        ("nice=-20", "", False, ["scheduling", "nice", "EACCES"]),
        ("oom_score_adjust=-1000", "", False, ["scheduling", "oom_score_adjust", "EACCES"]),
        # The rest has other answers in a user namespace, and these are given to a real user.
        pytest.param(
            *("identity=Identity(1, 1, (), 'daemon')", "", False, ["user", "daemon", "EPERM"]),
            marks=AS_ROOT,
        ),
        pytest.param(
            "limits=()",
            "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))",
            False,
            ["fork", "/bin/true", "EAGAIN"],
            marks=AS_ROOT,
        ),
        pytest.param(
            "limits=()",
            "resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))",
            True,
            ["exec", "/bin/true", "EAGAIN"],
            marks=AS_ROOT,
        ),
    ],
    ids=["rlimit", "nice", "oom", "user", "fork EAGAIN", "posix_spawn EAGAIN"],
)
def test_what_an_ordinary_user_may_not_do_fails_closed(world, members, prepare, fast, expected):
    root = str(Path(sysabi.__file__).parents[1])
    code = AS_NOBODY.format(root=root, members=members, prepare=prepare, fast=fast)
    child = world.spawn(sys.executable, "-I", "-c", code)

    assert world.exit_of(child).status == Exited(0)
    assert world.heard() == expected


@AS_ROOT
def test_a_user_over_its_number_of_processes_fails_at_exec(world, stage):
    """Changing the user succeeds, executing then does not: setuid(2) counts those before us."""
    identity = Identity(64124, 64124, (), "crowded")
    others = [world.sh("echo ready >&3; kill -STOP $$", identity=identity) for _ in range(2)]
    assert [world.heard() for _ in others] == [["ready"], ["ready"]]
    limit = ResourceLimit("nproc", 1, 1)

    error = stage.attempt("/bin/true", identity=identity, limits=(limit,))

    assert facts(error) == ("exec", "/bin/true", "EAGAIN")
    for other in others:
        world.reaper.signal(other, signal.SIGKILL, whole_group=True)


# -- what the program finds -----------------------------------------------------------------------


def status_of(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)


def test_the_program_gets_a_clean_mask_and_default_dispositions(stage, fast):
    before = {signum: signal.signal(signum, signal.SIG_IGN) for signum in (*IGNORED, RTMIN + 5)}
    signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        found = status_of(stage.output("/bin/cat", "/proc/self/status", fast=fast))
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)

    masks = {name: int(found[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd")}
    # glibc's posix_spawn has a child ignore the two signals that it keeps for itself.
    masks["SigIgn"] &= ~(1 << 31 | 1 << 32)
    assert masks == {"SigBlk": 0, "SigIgn": 0, "SigCgt": 0, "SigPnd": 0}


@pytest.fixture
def nothing_inheritable():
    """Whoever runs the tests may have left descriptors open; the daemon closes them first."""
    left = [int(name) for name in os.listdir("/proc/self/fd") if int(name) > 2]
    left = [fd for fd in left if os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)]
    for fd in left:
        os.set_inheritable(fd, False)
    yield
    for fd in left:
        os.set_inheritable(fd, True)


def test_the_program_has_its_standard_descriptors_and_what_it_was_given(
    stage, fast, nothing_inheritable
):
    found = stage.output("/bin/ls", "/proc/self/fd", fast=fast).split()

    assert found == ["0", "1", "2", "3", "4"]  # 3 is the announcement, 4 the listing itself


def test_only_three_descriptors_without_a_channel(world, fast, capfd, nothing_inheritable):
    recipe = Recipe(specify("/bin/ls", "/proc/self/fd", fast=fast), world.host)
    launched = recipe.spawn(1)
    world.exit_of(world.watch(launched.pid))
    if launched.report is not None:
        os.close(launched.report)

    assert capfd.readouterr().out.split() == ["0", "1", "2", "3"]  # 3: the listing itself


def test_a_channel_may_already_have_the_number_it_is_given_under(world, fast):
    spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    saved = os.dup(3) if spare != 3 else None
    os.dup2(world.announce, 3, inheritable=False)
    try:
        recipe = Recipe(specify(SH, "-c", "echo here >&3", fast=fast), world.host, passing(3))
        launched = recipe.spawn(1)
    finally:
        if saved is not None:
            os.dup2(saved, 3, inheritable=False)
            os.close(saved)
            os.close(spare)
        else:
            os.close(3)
    world.exit_of(world.watch(launched.pid))
    if launched.report is not None:
        os.close(launched.report)

    assert world.heard() == ["here"]


def test_the_program_leads_a_session_of_its_own(world, fast):
    child = world.sh("read p c s pp g sid rest < /proc/$$/stat; echo $pp $g $sid >&3", fast=fast)

    parent, group, session = map(int, world.heard())
    assert (parent, group, session) == (os.getpid(), child.pid, child.pid)


def test_the_soft_limit_of_descriptors_is_given_back(world, stage, fast):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    world.host = world.host._replace(soft_files=100, hard_files=hard)
    found = stage.sh("ulimit -S -n; ulimit -H -n", fast=fast).split()

    assert found == ["100", str(hard) if hard != resource.RLIM_INFINITY else "unlimited"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (soft, hard)


@pytest.mark.slow
def test_a_limit_lowered_under_us_does_not_keep_programs_from_starting(world):
    """As `prlimit --pid` does it, for an ordinary user who cannot raise it again."""
    code = AS_NOBODY.format(
        root=str(Path(sysabi.__file__).parents[1]),
        members="",
        prepare="resource.setrlimit(resource.RLIMIT_NOFILE, (50, 50))",
        fast=True,
    ).replace(
        "poll = select.poll()",
        "os.write(3, b'started\\n'); os.waitpid(launched.pid, 0); sys.exit()",
    )
    child = world.spawn(sys.executable, "-I", "-c", code)

    assert world.exit_of(child).status == Exited(0)
    assert world.heard() == ["started"]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o000])
def test_the_umask_is_the_services_and_ours_stays(stage, fast, umask):
    before = os.umask(0o027)
    stage.world.host = stage.world.host._replace(umask=0o027)
    try:
        assert int(stage.sh("umask", umask=umask, fast=fast), 8) == umask
    finally:
        assert os.umask(before) == 0o027


def test_a_failed_start_leaves_our_umask_and_limits_alone(stage, fast):
    before = os.umask(0o027)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    stage.world.host = stage.world.host._replace(umask=0o027, soft_files=90)
    try:
        stage.attempt("/nonexistent", umask=0, fast=fast)
    finally:
        assert os.umask(before) == 0o027

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits


def test_standard_input_is_null_a_file_or_ours(stage, fast, tmp_path):
    assert stage.sh("readlink /proc/self/fd/0", fast=fast) == "/dev/null\n"
    ours = os.readlink("/proc/self/fd/0")
    assert stage.sh("readlink /proc/self/fd/0", stdin="inherit", fast=fast) == f"{ours}\n"
    source = tmp_path / "input"
    source.write_text("what was asked for")

    out = stage.output("/bin/cat", stdin=f"file:{source}", fast=fast)

    assert out == "what was asked for"


def test_standard_input_from_a_file_blocks_as_it_should(stage, tmp_path):
    source = tmp_path / "input"
    source.write_text("x")
    flags = stage.sh("sed -n 's/^flags:.//p' /proc/self/fdinfo/0", stdin=f"file:{source}")

    assert not int(flags, 8) & os.O_NONBLOCK


def test_output_can_be_thrown_away(world, stage, fast):
    world.sh("echo $(readlink /proc/$$/fd/1) $(readlink /proc/$$/fd/2) >&3",
             output=Output.NULL, fast=fast)  # fmt: skip

    assert world.heard() == ["/dev/null", "/dev/null"]


def test_a_service_may_write_to_its_file_itself(world, tmp_path):
    out, errors = tmp_path / "out", tmp_path / "err"
    out.write_text("before\n")
    log = LogSpec(path=str(out), stderr_path=str(errors))
    world.sh(
        "sed -n 's/^flags:.//p' /proc/self/fdinfo/2 >&3; echo 1; echo 2 >&2; umask >&3",
        output=Output.DIRECT, log=log, umask=0o027,
    )  # fmt: skip
    (flags,), (umask,) = world.heard(), world.heard()

    assert (out.read_text(), errors.read_text()) == ("before\n1\n", "2\n")
    assert errors.stat().st_mode & 0o777 == 0o640
    assert int(flags, 8) & (os.O_APPEND | os.O_NONBLOCK) == os.O_APPEND
    assert int(umask, 8) == 0o027


def test_both_streams_may_share_a_file(world, tmp_path):
    log = LogSpec(path=str(tmp_path / "out"), stderr_path=str(tmp_path / "out"))
    world.sh("echo 1; echo 2 >&2; echo 3; echo >&3", output=Output.DIRECT, log=log)
    world.heard()

    assert (tmp_path / "out").read_text() == "1\n2\n3\n"


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda path: path.symlink_to("/dev/null"), "ELOOP"),
        (lambda path: os.link(path.with_name("other"), path), "EPERM"),
        (os.mkfifo, "ENXIO"),
        (os.mkdir, "EISDIR"),
    ],
)
def test_nobody_leads_a_service_to_another_file(stage, tmp_path, make, error):
    (tmp_path / "other").write_text("precious")
    path = tmp_path / "out"
    make(path)
    failed = stage.attempt(
        "/bin/true", output=Output.DIRECT, log=LogSpec(path=str(path), stderr_path=str(path))
    )

    assert facts(failed) == ("stdio", str(path), error)


def test_the_directory_is_the_services(stage, tmp_path):
    assert stage.sh("pwd -P", directory=str(tmp_path)) == f"{tmp_path.resolve()}\n"
    assert stage.sh("pwd -P") == f"{Path.cwd().resolve()}\n"


@AS_ROOT
def test_the_user_is_changed_for_good_with_its_groups(stage):
    found = status_of(stage.output("/bin/cat", "/proc/self/status", identity=NOBODY))

    assert found["Uid"].split() == ["65534"] * 4
    assert found["Gid"].split() == ["65533"] * 4
    assert sorted(found["Groups"].split()) == ["65531", "65532"]
    assert int(found["CapEff"], 16) == 0


@AS_ROOT
def test_the_user_is_what_id_says(stage):
    uid, gid, *groups = stage.sh("id -u; id -g; id -G", identity=NOBODY).split()

    assert (uid, gid) == ("65534", "65533")
    assert sorted(groups) == ["65531", "65532", "65533"]


@AS_ROOT
def test_a_directory_is_entered_as_the_user(stage, tmp_path):
    tmp_path.chmod(0o700)

    error = stage.attempt("/bin/true", identity=NOBODY, directory=str(tmp_path))

    assert facts(error) == ("directory", str(tmp_path), "EACCES")


def test_nice_oom_score_and_processors(stage):
    cpu = min(os.sched_getaffinity(0))
    script = (
        "nice; cat /proc/self/oom_score_adj; sed -n 's/^Cpus_allowed_list:.//p' /proc/self/status"
    )
    found = stage.sh(script, nice=7, oom_score_adjust=500, cpu_affinity=(cpu,)).split()

    assert found == ["7", "500", str(cpu)]


def test_a_scheduling_policy(stage):
    found = stage.sh("set -- $(cat /proc/self/stat); shift 40; echo $1", sched_policy="batch")

    assert found.strip() == str(os.SCHED_BATCH)


@pytest.mark.parametrize(
    ("name", "flag", "soft", "hard"),
    [("nofile", "-n", 77, 99), ("core", "-c", 0, 512), ("stack", "-s", 1 << 20, 1 << 21)],
)
def test_limits_are_set(stage, name, flag, soft, hard):
    unit = {"core": 512, "stack": 1024}.get(name, 1)
    found = stage.sh(
        f"ulimit -S {flag}; ulimit -H {flag}", limits=(ResourceLimit(name, soft, hard),)
    )

    assert found.split() == [str(soft // unit), str(hard // unit)]


def test_an_unlimited_limit(stage):
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    limit = ResourceLimit("cpu", hard, hard)

    expected = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    assert stage.sh("ulimit -t", limits=(limit,)).split() == [expected]


def test_no_new_privileges(stage):
    out = stage.output("/bin/cat", "/proc/self/status", no_new_privileges=True)

    assert status_of(out)["NoNewPrivs"] == "1"


@pytest.mark.slow
def test_the_parents_death_is_told_to_the_service(world):
    """A process in between starts the service and is killed."""
    code = (
        f"import os, sys, signal; sys.path.insert(0, {str(Path(sysabi.__file__).parents[1])!r})\n"
        "from supervisord_pidfd.core.spec import ServiceSpec\n"
        "from supervisord_pidfd.process import Host, Provision, Recipe\n"
        f"spec = ServiceSpec('test', {program('linger')!r}, program={sys.executable!r},\n"
        "    parent_death_signal=signal.SIGUSR2)\n"
        "null = os.open('/dev/null', os.O_RDWR)\n"
        "given = Provision(descriptors=((3, 3),))\n"
        "Recipe(spec, Host(dict(os.environ), null, 64, 4096), given).spawn(1)\n"
        "signal.pause()\n"
    )
    between = world.spawn(sys.executable, "-I", "-c", code)
    word, service = world.heard()
    assert word == "ready"
    world.reaper.signal(between, signal.SIGKILL, whole_group=False)
    world.exit_of(between)

    world.turn_until(lambda: int(service) in world.orphans_reaped)

    assert world.orphans_reaped[int(service)] == Signaled(signal.SIGUSR2)


def test_a_program_is_looked_for_in_its_path_when_it_was_not_there_before(stage, tmp_path):
    file_of(tmp_path / "later", b"#!/bin/sh\necho found\n", 0o755)
    environment = (("PATH", f"relative:/nonexistent:/dev/null:{tmp_path}"),)

    assert stage.output("later", program=None, environment=environment) == "found\n"


@pytest.mark.parametrize(("mode", "error"), [(0o644, "EACCES"), (None, "ENOENT")])
def test_a_search_tells_the_most_telling_error(stage, tmp_path, mode, error):
    if mode is not None:
        file_of(tmp_path / "it", b"#!/bin/sh\n", mode)
    environment = (("PATH", f"{tmp_path}:/nonexistent"),)

    assert facts(stage.attempt("it", program=None, environment=environment)) == (
        "exec",
        "it",
        error,
    )


# -- environment ----------------------------------------------------------------------------------


def test_the_environment_arrives_with_every_byte(stage, fast):
    world = stage.world
    odd = os.fsdecode(b"\xff\xfe=\n\xc3\xa4")
    world.host = world.host._replace(environ={"ODD": odd, "LISTEN_FDS": "1", "MAINPID": "1"})
    out = stage.sh(
        "env -0 >&3; echo >&3", environment=(("ADDED", "ä b"), ("EMPTY", "")), fast=fast
    )
    assert out == ""
    text = world._heard
    while b"\0\n" not in text:
        text += os.read(world._ears, 4096)

    pairs = dict(pair.split(b"=", 1) for pair in text.split(b"\0") if b"=" in pair)
    assert pairs[b"ODD"] == b"\xff\xfe=\n\xc3\xa4"
    assert pairs[b"ADDED"] == "ä b".encode()
    assert pairs[b"EMPTY"] == b""
    assert pairs[b"SUPERVISORD_SERVICE"] == b"test"
    assert pairs[b"SUPERVISORD_RUN"] == b"1"
    assert not {b"LISTEN_FDS", b"MAINPID"} & set(pairs)


def test_the_run_is_counted_in_the_environment(world, fast):
    recipe = Recipe(
        specify(SH, "-c", "echo $SUPERVISORD_RUN >&3", fast=fast),
        world.host,
        passing(world.announce),
    )
    for run in (1, 2, 77):
        launched = recipe.spawn(run)
        world.exit_of(world.watch(launched.pid))
        if launched.report is not None:
            os.close(launched.report)

    assert [world.heard() for _ in range(3)] == [["1"], ["2"], ["77"]]


INHERITED = {"A": "1", "AB": "2", "B": "3", "SUPERVISORD_SERVICE": "outer", "HOME": "/h"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ({}, {"A": "1", "AB": "2", "B": "3", "HOME": "/h"}),
        ({"inherit": ()}, {}),
        ({"inherit": ("A*",)}, {"A": "1", "AB": "2"}),
        ({"unset": ("A?", "HOME")}, {"A": "1", "B": "3"}),
        ({"environment": (("A", "x"),), "unset": ("A",)}, {"AB": "2", "B": "3", "HOME": "/h"}),
        ({"inherit": ("B",), "environment": (("A", "x"),)}, {"A": "x", "B": "3"}),
        (
            {"inherit": (), "identity": NOBODY},
            {"HOME": "/nonexistent", "USER": "nobody", "LOGNAME": "nobody", "SHELL": "/bin/false"},
        ),
        (
            {"inherit": (), "identity": Identity(5, 5), "environment": (("USER", "x"),)},
            {"USER": "x"},
        ),
        (
            {"inherit": (), "identity": NOBODY, "environment": (("HOME", "/mine"),)},
            {"HOME": "/mine", "USER": "nobody", "LOGNAME": "nobody", "SHELL": "/bin/false"},
        ),
        ({"inherit": (), "instance": "b"}, {"SUPERVISORD_INSTANCE": "b"}),
    ],
)
def test_sources_of_the_environment_from_weak_to_strong(members, expected):
    found = environment_of(specify("/bin/true", **members), INHERITED)

    assert found == {**expected, "SUPERVISORD_SERVICE": "test"}


# -- the error pipe -------------------------------------------------------------------------------


@pytest.fixture
def report():
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(read_end)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"E", True),
        (b"", False),
        (b"garbage", False),
        (b"!user\0EPERM\0www", ("user", "www", "EPERM")),
        (b"E!exec\0ENOENT\0/x", ("exec", "/x", "ENOENT")),
        (b"!us", ("us", "", "")),
        (b"!", ("", "", "")),
        (b"!exec\0EIO\0\xff\xfe", ("exec", "��", "EIO")),
        (b"!exec\0EIO\0a\0b\0c", ("exec", "a", "EIO")),
    ],
)
def test_a_record_is_read_whatever_it_holds(report, said, expected):
    read_end, write_end = report
    os.write(write_end, said)
    os.close(write_end)

    found = read_report(read_end)

    assert (facts(found) if isinstance(found, SpawnError) else found) == expected


def test_an_open_pipe_says_nothing_yet_and_loses_nothing(report):
    """The program may hang in exec for long after it said that it was about to be executed."""
    read_end, write_end = report
    assert read_report(read_end) is None
    os.write(write_end, b"E")
    assert read_report(read_end) is None
    os.close(write_end)

    assert read_report(read_end) is True


def test_a_child_killed_early_said_whether_it_was_executed(world, stage):
    launched = world.launch("/bin/true", fast=False)
    os.kill(launched.pid, signal.SIGKILL)  # wherever it is by now
    child = world.watch(launched.pid)
    said = stage.said(launched.report)
    status = world.exit_of(child).status

    assert (said, status) in [
        (False, Signaled(signal.SIGKILL)),
        (True, Signaled(signal.SIGKILL)),
        (True, Exited(0)),
    ]


def test_a_thousand_failures_and_successes_leave_nothing(world):
    """What would be left is what the folder's fixture looks for."""
    for index in range(300):
        with pytest.raises(SpawnError):
            world.launch("/nonexistent")
        launched = world.launch("/bin/true", fast=bool(index % 2))
        if launched.report is not None:
            os.close(launched.report)
        os.waitpid(launched.pid, 0)


# -- the terminal ---------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_foreground_service_gets_the_terminal(tmp_path):
    """Only a session leader with a terminal can show it, so a child of ours is one."""
    result_end, write_end = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:
        code = 1
        try:
            signal.signal(signal.SIGTTOU, signal.SIG_IGN)
            one = World("sigchld")
            one.announce = write_end
            spec = {"stdin": "inherit", "foreground": True, "fast": True}
            script = "read p c s pp g sid tty fg rest < /proc/$$/stat; echo $$ $g $fg $sid >&3"
            child = one.spawn(SH, "-c", script, **spec)
            one.exit_of(child)
            os.write(write_end, f"{child.pid} {os.getpid()}\n".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write_end)
    said = b""
    while chunk := os.read(result_end, 4096):
        said += chunk
    os.close(result_end)
    os.waitpid(pid, 0)
    os.close(terminal)

    (child, group, foreground, session), (watched, leader) = [
        [int(word) for word in line.split()] for line in said.splitlines()
    ]
    assert child == group == foreground == watched
    assert session == leader == pid


def test_without_a_terminal_the_foreground_service_leads_a_session(world):
    child = world.sh("read p c s pp g sid rest < /proc/$$/stat; echo $g $sid >&3", foreground=True)

    assert world.heard() == [str(child.pid)] * 2


# -- what is fast ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "members",
    [
        {"program": None},
        {"fast": False},
        {"stdin": "file:/etc/passwd"},
        {"directory": "/"},
        {"identity": NOBODY},
        {"limits": (ResourceLimit("core", 0, 0),)},
        {"nice": 0},
        {"oom_score_adjust": 0},
        {"cpu_affinity": (0,)},
        {"sched_policy": "batch"},
        {"no_new_privileges": True},
        {"parent_death_signal": 9},
        {"foreground": True},
    ],
    ids=lambda members: next(iter(members)),
)
def test_whatever_a_vfork_cannot_do_takes_the_second_path(world, members):
    assert not Recipe(specify("/bin/true", **members), world.host).fast
    assert Recipe(specify("/bin/true"), world.host).fast


def test_a_child_stopped_on_its_way_is_executed_later(world):
    launched = world.launch(SH, "-c", "exit 0", fast=False)
    os.kill(launched.pid, signal.SIGSTOP)
    os.waitid(os.P_PID, launched.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    os.kill(launched.pid, signal.SIGCONT)
    wait_dead(launched.pid)
    os.waitpid(launched.pid, 0)
    assert read_report(launched.report) is True
    os.close(launched.report)


@pytest.mark.parametrize("beside", [False, True], ids=["the recipe's", "a run's own"])
def test_descriptors_beyond_the_services_limit_are_given_all_the_same(world, beside):
    """glibc's posix_spawn refuses them; so does nobody else."""
    read_end, write_end = os.pipe()
    beyond = far(write_end, 100)
    world.host = world.host._replace(soft_files=50)
    spec = specify(SH, "-c", "echo here >&7; ulimit -Sn >&7")
    given = ((7, beyond),)
    recipe = Recipe(spec, world.host, Provision(descriptors=() if beside else given))
    launched = recipe.spawn(1, given if beside else ())
    if launched.report is not None:
        assert Stage.said(launched.report) is True
    status = world.exit_of(world.watch(launched.pid)).status
    said = os.read(read_end, 100)
    for fd in (read_end, write_end, beyond):
        os.close(fd)

    assert status == Exited(0)
    assert said == b"here\n50\n"
