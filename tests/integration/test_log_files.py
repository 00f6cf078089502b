"""The file sink on a real disk: nothing lost, nothing torn, nobody leads it elsewhere."""

import ctypes
import gzip
import json
import os
import resource
import signal
import threading
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisord_pidfd.core.spec import LogFormat
from supervisord_pidfd.logger import packing, places
from supervisord_pidfd.logger.files import RETRY_S, SLACK_BYTES, FileSink
from supervisord_pidfd.logger.packing import Packer
from supervisord_pidfd.logger.rotation import Rotation, olds
from supervisord_pidfd.logger.sinks import SinkError

DEADLINE_S = 20.0
DAY = 86400.0


class Wall:
    def __init__(self, now=1795874527.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def make(tmp_path):
    """Make a sink; it is closed at the end."""
    made = []

    def make(name="web.log", form=LogFormat.RAW, **options):
        around = {key: options.pop(key) for key in ("tell", "pack", "wall") if key in options}
        sink = FileSink(str(tmp_path / name), form, Rotation(**options), **around)
        made.append(sink)
        return sink

    yield make
    for sink in made:
        sink.close()


def pour(sink, data):
    """Write all of it, as a pump does: what was not taken is offered again."""
    while data:
        data = data[sink.write(data) :]


def segments(directory, base="web.log"):
    """Return what is in all files of a log, the oldest first."""
    found = []
    for old in reversed(olds(os.listdir(directory), base)):
        data = (directory / old.name(base)).read_bytes()
        found.append(gzip.decompress(data) if old.suffix else data)
    current = directory / base
    return [*found, current.read_bytes()] if current.exists() else found


def lines(count, start=0):
    return b"".join(b"line %07d\n" % number for number in range(start, start + count))


def in_child(body):
    """Run it in a forked child; return its exit code and what it returned, as JSON."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(read)
            os.write(write, json.dumps(body()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(write)
    with os.fdopen(read, "rb") as said:
        answer = said.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return status, json.loads(answer) if answer else None


# -- writing --------------------------------------------------------------------------------------


def test_lines_are_appended_to_what_is_there(make, tmp_path):
    (tmp_path / "web.log").write_bytes(b"before\n")

    assert make().write(b"after\n") == 6
    assert (tmp_path / "web.log").read_bytes() == b"before\nafter\n"


def test_nothing_is_touched_before_the_first_line(make, tmp_path):
    make().reopen()

    assert list(tmp_path.iterdir()) == []


def test_the_mode_of_files_and_directories_does_not_depend_on_the_umask(make, tmp_path):
    before = os.umask(0o077)
    try:
        make("deep/er/web.log").write(b"x\n")
    finally:
        os.umask(before)

    assert (tmp_path / "deep/er/web.log").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "deep").stat().st_mode & 0o007 == 0


def test_a_torn_line_of_a_logger_that_died_is_ended_first(make, tmp_path):
    (tmp_path / "web.log").write_bytes(b"whole\nhal")
    pour(make(), b"next\n")

    assert (tmp_path / "web.log").read_bytes() == b"whole\nhal\nnext\n"


def test_a_line_that_goes_on_is_not_ended_unless_one_asks(make, tmp_path):
    sink = make()
    for data in (b"one ", b"line\n", b"half"):
        sink.write(data)
    sink.fresh()
    sink.write(b"another\n")
    sink.fresh()
    sink.write(b"last\n")

    assert (tmp_path / "web.log").read_bytes() == b"one line\nhalf\nanother\nlast\n"


def test_reopened_in_the_middle_of_a_line_the_same_file_goes_on(make, tmp_path):
    sink = make()
    sink.write(b"one ")
    sink.reopen()
    sink.write(b"line\n")

    assert (tmp_path / "web.log").read_bytes() == b"one line\n"


def test_after_reopen_a_renamed_file_is_left_alone(make, tmp_path):
    sink = make()
    sink.write(b"one\n")
    (tmp_path / "web.log").rename(tmp_path / "moved")
    sink.write(b"two\n")
    sink.reopen()
    sink.write(b"three\n")

    assert (tmp_path / "moved").read_bytes() == b"one\ntwo\n"
    assert (tmp_path / "web.log").read_bytes() == b"three\n"


def test_a_file_that_was_cut_by_others_goes_on_at_its_end(make, tmp_path):
    sink = make(size=100)
    sink.write(lines(7))
    os.truncate(tmp_path / "web.log", 0)
    sink.write(lines(5))

    assert segments(tmp_path) == [lines(5)]


def test_a_deleted_file_is_made_again_with_its_directory(make, tmp_path):
    sink = make("logs/web.log")
    sink.write(b"gone\n")
    (tmp_path / "logs/web.log").unlink()
    (tmp_path / "logs").rmdir()
    sink.write(b"here\n")

    assert (tmp_path / "logs/web.log").read_bytes() == b"here\n"


def test_the_device_is_known_before_the_file_is_there(make, tmp_path):
    sink = make("not/yet/web.log")
    sink.write(b"x\n")

    assert (
        sink.device == places.device_of(str(tmp_path / "no/such/place")) == tmp_path.stat().st_dev
    )
    assert sink.waits_on() is None


# -- who leads us elsewhere -----------------------------------------------------------------------


def symlink(tmp_path):
    (tmp_path / "web.log").symlink_to(tmp_path / "target")
    return "ELOOP"


def hard_link(tmp_path):
    (tmp_path / "target").write_bytes(b"secret\n")
    os.link(tmp_path / "target", tmp_path / "web.log")
    return "EPERM"


def fifo(tmp_path):
    os.mkfifo(tmp_path / "web.log")
    return "ENXIO"


def directory(tmp_path):
    (tmp_path / "web.log").mkdir()
    return "EISDIR"


def open_to_all(tmp_path):
    tmp_path.chmod(0o1777)
    return "EPERM"


@pytest.mark.parametrize("trap", [symlink, hard_link, fifo, directory, open_to_all])
def test_what_is_no_log_file_is_refused_and_left_as_it_is(trap, make, tmp_path):
    error = trap(tmp_path)
    before = sorted((path.name, path.lstat()[:7]) for path in tmp_path.iterdir())

    with pytest.raises(SinkError) as caught:
        make().write(b"x\n")
    assert caught.value.error == error
    assert caught.value.path == str(tmp_path / "web.log")
    assert sorted((path.name, path.lstat()[:7]) for path in tmp_path.iterdir()) == before
    tmp_path.chmod(0o700)


def test_writing_begins_by_itself_once_the_trap_is_gone(make, tmp_path):
    symlink(tmp_path)
    sink = make()
    with pytest.raises(SinkError):
        sink.write(b"x\n")
    (tmp_path / "web.log").unlink()

    assert sink.write(b"x\n") == 2


def test_a_link_of_ours_on_the_way_is_followed(make, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "absolute").symlink_to(tmp_path / "real")
    (tmp_path / "relative").symlink_to("absolute/../real")
    make("relative/web.log").write(b"x\n")

    assert (tmp_path / "real/web.log").read_bytes() == b"x\n"


def test_links_in_a_circle_are_an_error(make, tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")

    with pytest.raises(SinkError) as caught:
        make("a/web.log").write(b"x\n")
    assert caught.value.error == "ELOOP"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_link_of_somebody_else_is_refused(make, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    os.chown(tmp_path / "link", 1234, 1234, follow_symlinks=False)

    with pytest.raises(SinkError) as caught:
        make("link/web.log").write(b"x\n")
    assert caught.value.error == "EPERM"


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize(("owner", "taken"), [(1234, True), (4321, False)])
def test_a_file_belongs_to_us_or_to_the_owner_of_its_directory(owner, taken, make, tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs/web.log").write_bytes(b"")
    os.chown(tmp_path / "logs", 1234, 1234)
    os.chown(tmp_path / "logs/web.log", owner, owner)

    if taken:
        assert make("logs/web.log").write(b"x\n") == 2
    else:
        with pytest.raises(SinkError):
            make("logs/web.log").write(b"x\n")


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_in_a_directory_for_all_only_ours_is_entered(make, tmp_path):
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    for name, owner in (("ours", 0), ("theirs", 1234)):
        (tmp_path / "tmp" / name).mkdir()
        os.chown(tmp_path / "tmp" / name, owner, owner)

    assert make("tmp/ours/web.log").write(b"x\n") == 2
    with pytest.raises(SinkError):
        make("tmp/theirs/web.log").write(b"x\n")


# -- rotation -------------------------------------------------------------------------------------


def test_the_limit_is_kept_and_no_line_is_torn(make, tmp_path):
    sink = make(size=1000, keep=1000)
    for start in range(0, 2000, 20):
        pour(sink, lines(20, start))

    found = segments(tmp_path)
    assert b"".join(found) == lines(2000)
    assert len(found) > 20
    for segment in found:
        assert segment.endswith(b"\n")
        assert len(segment) <= 1000


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.binary(max_size=300) | st.sampled_from([b"\n", b"x" * 90 + b"\n"]), max_size=30),
    st.integers(1, 200),
)
def test_all_files_together_are_what_was_written(tmp_path_factory, written, size):
    directory = tmp_path_factory.mktemp("logs")
    sink = FileSink(str(directory / "web.log"), LogFormat.RAW, Rotation(size=size, keep=10**6))
    for data in written:
        pour(sink, data)
    sink.close()

    found = segments(directory)
    assert b"".join(found) == b"".join(written)
    for segment in found[:-1]:
        assert segment.endswith(b"\n")


def test_a_line_longer_than_a_file_has_one_of_its_own(make, tmp_path):
    long = b"x" * 500 + b"\n"
    pour(make(size=100), b"short\n" + long + b"short\n")

    assert segments(tmp_path) == [b"short\n", long, b"short\n"]


def test_what_never_ends_a_line_is_divided_all_the_same(make, tmp_path):
    sink = make(size=1000, keep=100)
    for _ in range(10):
        pour(sink, b"x" * 65536)

    found = segments(tmp_path)
    assert b"".join(found) == b"x" * 655360
    assert max(map(len, found)) <= 1000 + SLACK_BYTES + 65536
    assert len(found) > 2


def test_as_many_old_files_are_kept_as_wanted(make, tmp_path):
    pour(make(size=100, keep=3), lines(100))

    found = segments(tmp_path)
    assert len(found) == 4
    assert lines(100).endswith(b"".join(found))


def test_with_none_to_keep_there_is_only_the_file(make, tmp_path):
    pour(make(size=100, keep=0), lines(100))

    assert os.listdir(tmp_path) == ["web.log"]


def test_all_files_together_have_a_limit(make, tmp_path):
    pour(make(size=100, keep=100, total=450), lines(1000))

    assert 300 < sum(map(len, segments(tmp_path))) <= 450


def test_without_a_limit_a_file_just_grows(make, tmp_path):
    pour(make(size=0), lines(10000))

    assert segments(tmp_path) == [lines(10000)]


def test_a_new_day_begins_a_new_file(make, tmp_path):
    wall = Wall()
    sink = make(every=DAY, wall=wall)
    sink.write(b"monday\n")
    wall.now += DAY
    sink.write(b"tuesday\n")
    wall.now += 3 * DAY
    sink.write(b"friday\n")

    assert segments(tmp_path) == [b"monday\n", b"tuesday\n", b"friday\n"]


def test_the_day_of_a_file_is_known_to_the_next_logger(make, tmp_path):
    wall = Wall()
    (tmp_path / "web.log").write_bytes(b"old\n")
    os.utime(tmp_path / "web.log", (wall.now, wall.now))
    make(every=DAY, wall=wall).write(b"same day\n")
    os.utime(tmp_path / "web.log", (wall.now, wall.now))
    wall.now += DAY
    make(every=DAY, wall=wall).write(b"next day\n")

    assert segments(tmp_path) == [b"old\nsame day\n", b"next day\n"]


def test_a_line_that_crosses_midnight_stays_whole(make, tmp_path):
    wall = Wall()
    sink = make(every=DAY, wall=wall)
    sink.write(b"x" * 2 * SLACK_BYTES)
    wall.now += DAY
    pour(sink, b"its end\nnext\n")

    assert segments(tmp_path) == [b"x" * 2 * SLACK_BYTES + b"its end\n", b"next\n"]


def test_a_clock_that_goes_back_rotates_nothing(make, tmp_path):
    wall = Wall()
    sink = make(every=DAY, wall=wall)
    sink.write(b"one\n")
    wall.now -= 5 * DAY
    sink.write(b"two\n")

    assert segments(tmp_path) == [b"one\ntwo\n"]


def test_a_rotation_is_told(make, tmp_path):
    told = []
    pour(make(size=100, tell=lambda event, fields: told.append((event, fields))), lines(10))

    assert told == [("log.rotated", {"path": str(tmp_path / "web.log")})]


def test_a_file_that_cannot_be_rotated_grows_and_is_tried_again(make, tmp_path):
    told, wall = [], Wall()
    sink = make(
        size=100, keep=1, wall=wall, tell=lambda event, fields: told.append((event, fields))
    )
    (tmp_path / "web.log.1").mkdir()
    pour(sink, lines(20))

    assert (tmp_path / "web.log").read_bytes() == lines(20)
    ((event, fields),) = told
    assert (event, fields["path"]) == ("log.write_failed", str(tmp_path / "web.log.1"))

    (tmp_path / "web.log.1").rmdir()
    wall.now += RETRY_S
    pour(sink, lines(1, 20))
    assert segments(tmp_path) == [lines(20), lines(1, 20)]


def test_a_file_put_in_place_by_others_is_not_taken_for_ours(make, tmp_path):
    sink = make(size=100)
    pour(sink, lines(7))
    (tmp_path / "web.log").rename(tmp_path / "theirs")
    (tmp_path / "web.log").write_bytes(b"new\n")
    pour(sink, lines(2, 7))

    assert (tmp_path / "theirs").read_bytes() == lines(7)
    assert segments(tmp_path) == [b"new\n" + lines(2, 7)]


# -- packing --------------------------------------------------------------------------------------


def test_old_files_are_packed_while_writing_goes_on(make, tmp_path):
    packer = Packer()
    sink = make(size=5000, keep=1000, compress=True, pack=packer.ask)
    for start in range(0, 20000, 100):
        pour(sink, lines(100, start))
    assert packer.join(DEADLINE_S)
    packer.ask(sink)
    assert packer.join(DEADLINE_S)

    assert b"".join(segments(tmp_path)) == lines(20000)
    names = os.listdir(tmp_path)
    assert [name for name in names if not name.endswith(".gz")] == ["web.log"]
    assert {(tmp_path / name).stat().st_mode & 0o777 for name in names} == {0o640}


def test_the_thread_of_the_packer_ends_with_its_work(make, tmp_path):
    packer = Packer()
    pour(make(size=100, compress=True, pack=packer.ask), lines(10))

    assert packer.join(DEADLINE_S)
    assert "packer" not in [thread.name for thread in threading.enumerate()]


def test_a_file_that_is_gone_before_it_is_packed_leaves_nothing(make, tmp_path):
    sink = make(size=100, keep=1)
    pour(sink, lines(10))
    (old,) = tmp_path.glob("web.log.1")
    with sink.directory() as directory:
        source = places.open_to_read(directory, old.name)
        old.unlink()
        packing._pack_one(sink, directory, source)
        os.close(source)

    assert os.listdir(tmp_path) == ["web.log"]


# -- crashes --------------------------------------------------------------------------------------

STEPS = ("open", "write", "rename", "unlink", "fchmod", "fdatasync", "utime", "mkdir")


def dies_at(step, act):
    """Run it in a child that ends right before, or right after, so many changes of the disk."""

    def body():
        seen = iter(range(1, 10**9))

        def counted(call):
            def counts(*args, **kwargs):
                number = next(seen)
                if number == step:
                    os._exit(9)
                result = call(*args, **kwargs)
                if number == -step:
                    os._exit(9)
                return result

            return counts

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        return act()

    return in_child(body)


@pytest.mark.slow
@pytest.mark.parametrize("side", [1, -1], ids=["before", "after"])
@pytest.mark.parametrize("compress", [False, True], ids=["plain", "packed"])
def test_a_crash_at_any_step_loses_and_repeats_nothing(side, compress, tmp_path):
    code, step = 9, 0
    while code == 9:
        step += 1
        directory = tmp_path / str(step)
        directory.mkdir()
        path = str(directory / "web.log")
        taken, said = os.pipe()

        def act(path=path, said=said):
            sink = FileSink(path, LogFormat.RAW, Rotation(size=60, keep=100))
            for start in range(0, 20, 2):
                pour(sink, lines(2, start))
                os.writev(said, [b"x"])
                if compress and start % 8 == 6:
                    packing.pack(sink)

        code, _ = dies_at(step * side, act)
        os.close(said)
        with os.fdopen(taken, "rb") as acknowledged:
            at_least = 2 * len(acknowledged.read())
        found = b"".join(segments_after_crash(directory))
        count = found.count(b"\n")
        assert at_least <= count <= at_least + 2
        assert found == lines(count)

        sink = FileSink(path, LogFormat.RAW, Rotation(size=60, keep=100))
        for start in range(count, count + 12, 2):
            pour(sink, lines(2, start))
        packing.pack(sink)
        sink.close()
        assert b"".join(segments(directory)) == lines(count + 12)
        assert not list(directory.glob(".*"))
    assert code == 0
    assert step > 20


def segments_after_crash(directory):
    """Read them as they are: what is there twice, plain and packed, is read once."""
    packed = {path.name.removesuffix(".gz") for path in directory.glob("*.gz")}
    for name in packed:
        with suppress(FileNotFoundError):
            (directory / name).unlink()
    return segments(directory)


# -- full disks -----------------------------------------------------------------------------------


def test_a_limit_on_the_size_of_files_is_an_error_like_another(tmp_path):
    def body():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        sink = FileSink(str(tmp_path / "web.log"), LogFormat.RAW, Rotation())
        taken = 0
        try:
            while True:
                taken += sink.write(lines(7))
        except SinkError as error:
            return taken, error.error

    assert in_child(body) == (0, [1000, "EFBIG"])
    assert (tmp_path / "web.log").stat().st_size == 1000


CLONE_NEWNS, CLONE_NEWUSER, MS_REC, MS_PRIVATE = 0x20000, 0x10000000, 0x4000, 1 << 18


def on_a_small_disk(tmp_path, body, size):
    """Run it in a child that has a tmpfs of so many bytes mounted, for itself alone."""

    def mounted():
        libc = ctypes.CDLL(None, use_errno=True)
        spaces = CLONE_NEWNS if os.geteuid() == 0 else CLONE_NEWNS | CLONE_NEWUSER
        options = f"size={size},mode=700".encode()
        path = os.fsencode(tmp_path)
        if (
            libc.unshare(spaces)
            or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
            or libc.mount(b"small", path, b"tmpfs", 0, options)
        ):
            return "cannot"
        return body()

    code, answer = in_child(mounted)
    if answer == "cannot":
        pytest.skip("no mount namespace can be made here")
    assert code == 0
    return answer


def test_what_a_full_disk_took_is_known_to_the_byte_and_writing_resumes(tmp_path):
    def body():
        sink = FileSink(str(tmp_path / "web.log"), LogFormat.RAW, Rotation())
        (tmp_path / "ballast").write_bytes(bytes(40000))
        data, taken, error = lines(20000), 0, ""
        try:
            while True:
                taken += sink.write(data[taken : taken + 5000])
        except SinkError as caught:
            error = caught.error
        size = (tmp_path / "web.log").stat().st_size
        (tmp_path / "ballast").unlink()
        more = sink.write(data[taken : taken + 5000])
        whole = (tmp_path / "web.log").read_bytes() == data[: taken + more]
        return error, size == taken, more > 0, whole

    assert on_a_small_disk(tmp_path, body, 98304) == ["ENOSPC", True, True, True]


def test_on_a_full_disk_half_of_the_old_files_make_room(tmp_path):
    def body():
        sink = FileSink(str(tmp_path / "web.log"), LogFormat.RAW, Rotation(size=8000, keep=10))
        taken, data = 0, lines(60000)
        for _ in range(10):
            taken += sink.write(data[taken : taken + 8000])
        before = len(os.listdir(tmp_path)) - 1
        with open(tmp_path / "ballast", "wb", 0) as ballast, suppress(SinkError):
            for _ in range(3000):
                with suppress(OSError):
                    while ballast.write(bytes(4096)):
                        pass
                taken += sink.write(data[taken : taken + 100])
        whole = data[:taken].endswith(b"".join(segments(tmp_path)))
        return before, len(olds(os.listdir(tmp_path), "web.log")), taken > 80000, whole

    assert on_a_small_disk(tmp_path, body, 131072) == [9, 5, True, True]


def test_a_file_is_where_the_directory_should_be(make, tmp_path):
    (tmp_path / "file").write_bytes(b"")

    with pytest.raises(SinkError) as caught:
        make("file/web.log").write(b"x\n")
    assert caught.value.error == "ENOTDIR"
