"""The config child as a process: isolated, bounded, and never waited for."""

import contextlib
import gc
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supervisord_pidfd import __version__
from supervisord_pidfd.config import child
from supervisord_pidfd.config.child import (
    Loading,
    has_errors,
    load_blocking,
    parse_reply,
    run_apart,
    start_loading,
)
from supervisord_pidfd.config.host import Files, Found
from supervisord_pidfd.core.spec import ServiceSpec, StartFault
from supervisord_pidfd.errors import ConfigError, OtherVersionError
from tests.support.config import ROOT, request_for

EXAMPLES = [ROOT / "config/quickstart.toml", *sorted((ROOT / "config/examples").glob("*.toml"))]
WEB = '[service.web]\ncommand = "/bin/sh"\n'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "main.toml"
    path.write_text(WEB)
    return path


@contextlib.contextmanager
def loading_of(request):
    """Start a child; end it and close its pipe, whatever the test did."""
    loading: Loading = start_loading(request)
    try:
        yield loading
    finally:
        os.close(loading.fd)
        os.kill(loading.pid, signal.SIGKILL)
        os.waitpid(loading.pid, 0)


def read_all(fd, within=10.0):
    """Read a nonblocking descriptor to its end."""
    data = b""
    while select.select([fd], [], [], within)[0]:
        piece = os.read(fd, 65536)
        if not piece:
            return data
        data += piece
    raise AssertionError(f"no end of file within {within}s, so far {data!r}")


# -- there and back -------------------------------------------------------------------------------


def test_a_configuration_comes_back_as_specs(file):
    with loading_of(request_for(file)) as loading:
        reply = parse_reply(read_all(loading.fd))

    assert reply.ok
    assert [spec.name for spec in reply.services] == ["web"]
    assert isinstance(reply.services[0], ServiceSpec)


def test_the_pipe_is_fit_for_the_loop_of_the_core(file):
    with loading_of(request_for(file)) as loading:
        assert not os.get_blocking(loading.fd)
        assert not os.get_inheritable(loading.fd)


def test_problems_come_back(file):
    file.write_text(f"{WEB}cmomand = 1\n")

    reply = load_blocking(request_for(file))
    assert has_errors(reply.problems)
    assert reply.services == ()
    assert reply.problems[0].hint == "did you mean 'command'?"


def test_bytes_that_are_no_text_survive_the_pipe(file, tmp_path):
    (tmp_path / "env").write_bytes(b"A=\xff")
    file.write_text(f"{WEB}environment_file = ['env']\n")

    reply = load_blocking(request_for(file))
    assert os.fsencode(reply.services[0].environment[0][1]) == b"\xff"


def test_a_reply_larger_than_a_pipe(file):
    file.write_text("".join(f"[service.s{n}]\ncommand = '/bin/sh'\n" for n in range(2000)))

    assert len(load_blocking(request_for(file)).services) == 2000


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_load(path):
    # As an ordinary user: the checkout may be one that root would not trust.
    reply = load_blocking(request_for(path, uid=os.getuid() or 1000))

    assert not has_errors(reply.problems), child.render(reply.problems)
    assert reply.services


# -- what can go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b"null", b"3", b'"x"', b"{}", b"\xff", b'{"version": 1}',
        b'{"version": 1, "supervisor": {"x": 1}, "services": []}',
        b'{"version": 1, "supervisor": {}, "services": [{"nme": 1}]}',
        b'{"version": 1, "supervisor": {}, "services": [], "problems": [], "files": []}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_an_answer_that_is_none(data):
    with pytest.raises(ConfigError, match="died before it had answered"):
        parse_reply(data)


def test_an_answer_that_is_cut_short(file):
    with loading_of(request_for(file)) as loading:
        data = read_all(loading.fd)

    for size in range(0, len(data) - 1, 7):
        with pytest.raises(ConfigError):
            parse_reply(data[:size])


def test_an_answer_of_another_version():
    with pytest.raises(ConfigError, match="pidfdctl reexec"):
        parse_reply(b'{"version": 2}')


def test_an_answer_of_another_program():
    with pytest.raises(OtherVersionError, match="pidfdctl reexec"):
        parse_reply(b'{"version": 1, "program": "9.9.9"}')


def test_the_version_on_disk_is_read_and_not_remembered(tmp_path):
    assert child.installed_version() == __version__
    (tmp_path / "__init__.py").write_text('"""A later one."""\n\n__version__ = "9.9.9"\n')
    assert child.installed_version(str(tmp_path)) == "9.9.9"


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"version = 3", None])
def test_files_that_do_not_tell_their_version_are_taken_for_this_one(tmp_path, text):
    if text is not None:
        (tmp_path / "__init__.py").write_bytes(text)

    assert child.installed_version(str(tmp_path)) == __version__


def test_a_child_of_files_of_another_version_reads_nothing(file, monkeypatch):
    monkeypatch.setattr(child, "installed_version", lambda: "9.9.9")
    with loading_of(request_for(file)) as loading, pytest.raises(OtherVersionError):
        parse_reply(read_all(loading.fd))


def test_a_child_that_is_killed_leaves_an_end_of_file(file):
    with loading_of(request_for(file)) as loading:
        os.kill(loading.pid, signal.SIGKILL)
        data = read_all(loading.fd)

    with pytest.raises(ConfigError):
        parse_reply(data)


def test_a_child_that_is_too_slow_is_given_up(file):
    with pytest.raises(ConfigError, match="no answer within 0s"):
        load_blocking(request_for(file), deadline_s=0)


def test_an_internal_error_is_no_good_configuration(file):
    # A request that the types forbid stands for a bug of ours.
    reply = load_blocking(request_for(file)._replace(overrides=(3,)))

    assert [(p.severity, p.code) for p in reply.problems] == [("error", "syntax")]
    assert reply.problems[0].message.endswith("internal error: AttributeError")


def test_too_much_memory_is_a_problem_like_any_other():
    def work() -> bytes:
        command = ("x",) * 3_000_000
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        child._limit(resource.RLIMIT_AS, pages * resource.getpagesize() + (16 << 20))
        return json.dumps(child._load(request_for(None, command=command))).encode()

    answer = json.loads(run_apart(work))

    assert [problem["code"] for problem in answer["problems"]] == ["too-large"]
    assert "too much memory" in answer["problems"][0]["message"]


def test_without_descriptors_nothing_is_started(file):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            start_loading(request_for(file))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FORK_FAILS = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from supervisord_pidfd.config.child import Request, start_loading
os.setresuid(*[int(sys.argv[2])] * 3)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
before = os.listdir("/proc/self/fd")
try:
    start_loading(Request(None, 1, False, "/"))
except BlockingIOError:
    print(os.listdir("/proc/self/fd") == before)
"""


@pytest.mark.root
def test_without_processes_nothing_is_started_and_nothing_leaks():
    run = subprocess.run(
        [sys.executable, "-c", FORK_FAILS, str(ROOT), "64001"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert run.stdout == "True\n", run.stderr


# -- isolation ------------------------------------------------------------------------------------


def facts_of_an_isolated_child():
    """Fork as `start_loading` does, and let the child tell what it is like."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    extra = os.dup(reader)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
            child._isolate(writer)
            status = Path("/proc/self/status").read_text()
            facts = {
                "fds": {n: os.readlink(f"/proc/self/fd/{n}") for n in map(str, range(4))},
                "more": [n for n in range(4, 64) if os.path.lexists(f"/proc/self/fd/{n}")],
                "sid": os.getsid(0) == os.getpid(),
                "blocked": len(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
                "ignored": int(status.split("SigIgn:\t")[1].split()[0], 16),
                "limits": [
                    resource.getrlimit(kind)
                    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_CORE)
                ],
            }
            os.write(3, json.dumps(facts).encode())
        os._exit(0)
    os.close(writer)
    try:
        return json.loads(read_all(reader))
    finally:
        os.close(reader)
        os.close(extra)
        os.waitpid(pid, 0)


def test_the_child_leaves_everything_of_the_core_behind():
    facts = facts_of_an_isolated_child()

    assert [facts["fds"][str(n)] for n in range(3)] == ["/dev/null"] * 3
    assert facts["fds"]["3"].startswith("pipe:")
    assert facts["more"] == []
    assert facts["sid"]
    assert facts["blocked"] == 0
    assert facts["ignored"] & ~(0b11 << 31) == 0  # 32 and 33 are glibc's own
    memory, cpu, core = facts["limits"]
    assert memory[0] == memory[1]
    assert child.MAX_MEMORY < memory[0] < child.MAX_MEMORY + (16 << 30)
    assert cpu == [child.MAX_CPU_S] * 2
    assert core == [0, 0]


@pytest.fixture
def collecting():
    yield
    gc.enable()


def test_the_pass_in_the_process_of_the_test(file, collecting):
    plain = child._load(request_for(file))

    assert [service["name"] for service in plain["services"]] == ["web"]


LOADED_BY_A_PASS = """
import sys
from supervisord_pidfd import __version__
from supervisord_pidfd.config import child
request = child.Request(file=sys.argv[1], uid=0, pid1=False, start_dir="/")
assert child._load(request)["count"] == 1
print(*sys.modules)
"""


def test_a_pass_does_not_look_for_plugins_of_pydantic(file):
    run = subprocess.run(
        [sys.executable, "-I", "-c", LOADED_BY_A_PASS, file],
        capture_output=True,
        text=True,
        check=True,
    )

    loaded = run.stdout.split()
    assert "pydantic.main" in loaded
    assert "importlib.metadata" not in loaded


@pytest.mark.parametrize(("error", "code"), [(MemoryError, "too-large"), (KeyError, "syntax")])
def test_what_the_pass_cannot_survive_is_a_problem(collecting, error, code):
    class Broken:
        def __fspath__(self):
            raise error

    plain = child._load(request_for(None)._replace(file=Broken()))

    assert [problem["code"] for problem in plain["problems"]] == [code]


def test_a_pipe_is_written_to_its_end():
    reader, writer = os.pipe()
    child._write(writer, b"abc")
    os.close(writer)

    assert read_all(reader) == b"abc"
    os.close(reader)


def test_a_limit_that_is_lower_already_stays():
    def work() -> bytes:
        resource.setrlimit(resource.RLIMIT_CPU, (3, 3))
        child._limit(resource.RLIMIT_CPU, 20)
        return json.dumps(resource.getrlimit(resource.RLIMIT_CPU)).encode()

    assert json.loads(run_apart(work)) == [3, 3]


def test_the_child_runs_where_descriptors_0_to_2_are_closed(file):
    def work() -> bytes:
        os.closerange(0, 3)
        return b"%d" % len(load_blocking(request_for(file)).services)

    assert run_apart(work) == b"1"


# -- what may hang --------------------------------------------------------------------------------


def test_work_aside_comes_back():
    assert run_apart(lambda: b"x" * 200_000) == b"x" * 200_000


def test_work_that_fails_comes_back_empty():
    def work() -> bytes:
        raise ValueError

    assert run_apart(work) == b""


@pytest.fixture
def forgotten():
    """Forget afterwards that a filesystem did not answer, and reap who was given up."""
    yield
    child._apart_timed_out.clear()
    os.waitid(os.P_ALL, 0, os.WEXITED)


@pytest.mark.slow
def test_work_that_hangs_is_given_up_and_no_other_is_tried(forgotten):
    assert run_apart(signal.pause) is None
    assert run_apart(lambda: b"x") is None


DEAD_FILESYSTEM = """
import ctypes, json, os, sys
libc = ctypes.CDLL(None, use_errno=True)
folder, main, root = sys.argv[1:]
sys.path.insert(0, root)
if libc.unshare(0x00020000):  # CLONE_NEWNS: nobody else sees the mount
    sys.exit("skip")
libc.mount(b"none", b"/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
if libc.mount(b"dead", folder.encode(), b"fuse.dead", 0, options):
    sys.exit("skip")
from supervisord_pidfd.config.child import Request, load_blocking
reply = load_blocking(Request(main, os.getuid(), False, "/", max_files=1000), 15)
print(json.dumps([[s.name, s.program, s.fast, s.fault] for s in reply.services]))
"""


@pytest.mark.root
@pytest.mark.slow
def test_a_filesystem_that_never_answers_does_not_hold_the_answer_back(tmp_path):
    """Mount FUSE and never answer: everything on it hangs whoever asks."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("there is no /dev/fuse")
    dead = tmp_path / "dead"
    dead.mkdir()
    main = tmp_path / "main.toml"
    (tmp_path / "link").symlink_to("dead/tool")
    main.write_text(
        f"""
        [service.direct]
        command = "{dead}/tool"
        directory = "{dead}/x"
        [service.link]
        command = "{tmp_path}/link"
        [service.search]
        command = "tool"
        environment.PATH = "{dead}:/bin"
        [service.stdin]
        command = "/bin/sh"
        stdin = "file:{dead}/in"
        [service.env]
        command = "/bin/sh"
        environment_file = ["{dead}/env"]
        secrets.A = "file:{dead}/secret"
        [service.fine]
        command = "/bin/sh"
        """
    )
    run = subprocess.run(
        [sys.executable, "-c", DEAD_FILESYSTEM, str(dead), str(main), str(ROOT)],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if run.stderr.endswith("skip\n"):
        pytest.skip("there is no /dev/fuse")

    assert json.loads(run.stdout) == [
        ["direct", None, False, None],
        ["link", None, False, None],
        ["search", None, False, None],
        ["stdin", "/bin/sh", False, None],
        ["env", "/bin/sh", True, ["environment", f"{dead}/env", "ETIMEDOUT"]],
        ["fine", "/bin/sh", True, None],
    ], run.stderr


# -- as somebody who may not read -----------------------------------------------------------------


@pytest.fixture
def locked():
    """Give a directory with a file that we cannot read, even where we are root."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    secret = folder / "secret"
    secret.write_text("A=1")
    secret.chmod(0)
    tool = folder / "tool"
    tool.write_bytes(b"\x7fELF")
    tool.chmod(0o111)
    root = os.geteuid() == 0
    if root:
        os.setegid(64001)
        os.seteuid(64001)
    try:
        yield folder
    finally:
        if root:
            os.seteuid(0)
            os.setegid(0)
        shutil.rmtree(folder)


def test_a_file_without_permission_is_known(locked):
    files = Files({"/": "ext4"}, str(locked))

    assert files.readable("secret") == "EACCES"
    assert files.program("./secret", "", None).problem == "EACCES: it is not executable"


def test_a_program_that_cannot_be_read_is_not_fast(locked):
    found = Files({"/": "ext4"}, str(locked)).program("./tool", "", None)

    assert found == Found(f"{locked}/./tool", fast=False)


def test_a_main_file_without_permission(locked):
    reply = load_blocking(request_for(locked / "secret", uid=1000))

    assert [(p.code, p.message) for p in reply.problems] == [
        ("unreadable", "cannot read the file: EACCES")
    ]


def test_an_environment_file_without_permission(locked):
    reply = load_blocking(
        request_for(None, command=("/bin/sh",), uid=1000, start_dir="/")._replace(
            overrides=(f"service.main.environment_file=['{locked}/secret']",)
        )
    )

    assert reply.services[0].fault == StartFault("environment", f"{locked}/secret", "EACCES")
    assert [p.code for p in reply.problems] == ["unreadable"]
