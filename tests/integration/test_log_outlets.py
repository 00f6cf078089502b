"""Standard output, journal and syslog as sinks: nobody waits, no line is mixed with another."""

import fcntl
import json
import os
import pty
import socket
import struct
import threading

import pytest

from supervisord_pidfd.core.spec import LogFormat, Overflow
from supervisord_pidfd.logger import journal
from supervisord_pidfd.logger.datagrams import Courier
from supervisord_pidfd.logger.journal import RUNS_KEPT, JournalSink, Lookup
from supervisord_pidfd.logger.sinks import SinkError
from supervisord_pidfd.logger.stdout import Outlet, StdoutSink
from supervisord_pidfd.logger.syslog import SyslogSink
from tests.support.loggers import Logging, write_all

DEADLINE_S = 20.0


@pytest.fixture
def ends():
    """Give the ends of a pipe: ours to read, that of the daemon's standard output."""
    read_end, write_end = os.pipe()
    yield read_end, write_end
    for fd in (read_end, write_end):
        try:
            os.close(fd)
        except OSError:
            continue


def read_all(fd):
    os.set_blocking(fd, False)
    data = b""
    try:
        while some := os.read(fd, 1 << 16):
            data += some
    except BlockingIOError:
        pass
    return data


def is_non_blocking(fd):
    return bool(fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK)


# -- standard output ------------------------------------------------------------------------------


def test_a_full_pipe_is_not_waited_for_and_the_descriptor_of_others_is_left_alone(ends):
    outlet = Outlet(ends[1])
    sink = StdoutSink(outlet, LogFormat.RAW)
    data = b"x" * 99 + b"\n"
    taken = sink.write(data * 10_000)

    assert 0 < taken < 1_000_000
    assert sink.write(data) == 0
    assert sink.waits_on() is not None
    assert not is_non_blocking(ends[1])
    assert read_all(ends[0]) == (data * 10_000)[:taken]
    outlet.close()


def test_a_pipe_that_cannot_be_opened_again_is_asked_for_room(ends, monkeypatch):
    def refuse(*_args, **_kwargs):
        raise PermissionError

    monkeypatch.setattr(os, "open", refuse)
    sink = StdoutSink(Outlet(ends[1]), LogFormat.RAW)
    monkeypatch.undo()
    data = b"x" * 99 + b"\n"
    taken = sink.write(data * 10_000)

    assert 0 < taken < 1_000_000
    assert sink.write(data) == 0
    assert sink.waits_on() == ends[1]
    assert read_all(ends[0]) == (data * 10_000)[:taken]


def test_nobody_writes_into_the_middle_of_a_long_line(ends):
    outlet = Outlet(ends[1])
    one, other = StdoutSink(outlet, LogFormat.RAW), StdoutSink(outlet, LogFormat.RAW)
    long = b"x" * 200_000 + b"\n"
    taken = one.write(long)
    data = read_all(ends[0])
    assert other.write(b"other\n") == 0
    assert other.waits_on() is None  # there is room, so it would be called again and again

    while taken < len(long):
        taken += one.write(long[taken:])
        data += read_all(ends[0])
    assert other.write(b"other\n") == 6
    assert data + read_all(ends[0]) == long + b"other\n"
    outlet.close()


def test_a_line_whose_rest_never_comes_does_not_swallow_the_next_one(ends):
    outlet = Outlet(ends[1])
    one, other = StdoutSink(outlet, LogFormat.RAW), StdoutSink(outlet, LogFormat.RAW)
    taken = one.write(b"x" * 200_000 + b"\n")
    one.close()
    read_all(ends[0])

    assert other.write(b"other\n") == 6
    assert read_all(ends[0]) == b"\nother\n"
    assert taken < 200_000
    outlet.close()


def test_raw_output_without_an_end_of_line_is_gone_on_with_by_its_writer_only(ends):
    outlet = Outlet(ends[1])
    one, other = StdoutSink(outlet, LogFormat.RAW), StdoutSink(outlet, LogFormat.RAW)
    one.write(b"begin ")
    one.write(b"end\nprompt> ")
    other.write(b"other\n")

    assert read_all(ends[0]) == b"begin end\nprompt> \nother\n"
    outlet.close()


@pytest.mark.parametrize("size", [50, 3000, 9000])
def test_lines_of_many_threads_are_whole(ends, size):
    outlet = Outlet(ends[1])
    rounds, threads = 200, 4
    found = bytearray()

    def read():
        while some := os.read(ends[0], 1 << 16):
            found.extend(some)

    def write(name):
        sink = StdoutSink(outlet, LogFormat.RAW)
        line = name * size + b"\n"
        for _ in range(rounds):
            rest = line
            while rest:
                rest = rest[sink.write(rest) :]

    reader = threading.Thread(target=read)
    writers = [threading.Thread(target=write, args=(b"%d" % n,)) for n in range(threads)]
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    outlet.close()
    os.close(ends[1])
    reader.join()
    lines = bytes(found).splitlines()

    assert len(lines) == rounds * threads
    assert all(len(line) == size and len(set(line)) == 1 for line in lines)


def test_nobody_reads_a_terminal_and_nobody_waits():
    ours, theirs = pty.openpty()
    outlet = Outlet(theirs)
    sink = StdoutSink(outlet, LogFormat.RAW)
    line = b"x" * 99 + b"\n"
    taken = sum(sink.write(line) for _ in range(5000))

    assert 0 < taken < 500_000
    assert not is_non_blocking(theirs)
    outlet.close()
    os.close(ours)
    os.close(theirs)


def test_a_socket_is_not_waited_for():
    ours, theirs = socket.socketpair()
    sink = StdoutSink(Outlet(theirs.fileno()), LogFormat.RAW)
    line = b"x" * 99 + b"\n"
    taken = sink.write(line * 20_000)

    assert 0 < taken < 2_000_000
    assert not is_non_blocking(theirs.fileno())
    ours.close()
    theirs.close()


def test_a_file_takes_everything_and_is_known_to_be_one(tmp_path):
    with open(tmp_path / "out", "wb") as file:
        sink = StdoutSink(Outlet(file.fileno()), LogFormat.RAW)
        assert sink.write(b"line\n" * 100_000) == 500_000
        assert sink.device == os.fstat(file.fileno()).st_dev
        assert sink.waits_on() is None


@pytest.mark.parametrize("which", [0, 1])
def test_a_broken_or_closed_output_is_an_error(ends, which):
    outlet = Outlet(ends[1])
    sink = StdoutSink(outlet, LogFormat.RAW)
    outlet.close()
    os.close(ends[which])

    with pytest.raises(SinkError) as caught:
        sink.write(b"line\n")
    assert caught.value.error == ("EPIPE", "EBADF")[which]
    assert sink.waits_on() is None


# -- journal and syslog ---------------------------------------------------------------------------


class Receiver:
    """Be journald or a syslog daemon, on a socket in a directory of the test."""

    def __init__(self, path):
        self.path = str(path)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(DEADLINE_S)

    def receive(self):
        data, fds, _, _ = socket.recv_fds(self.socket, 1 << 20, 4)
        for fd in fds:
            with open(fd, "rb") as file:
                file.seek(0)
                data += file.read()
        return data, len(fds)

    def fields(self):
        return parsed(self.receive()[0])

    def close(self):
        self.socket.close()
        os.unlink(self.path)


def parsed(data):
    """Read an entry of journald's native protocol."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        name, is_plain, value = line.partition(b"=")
        if not is_plain:
            (size,) = struct.unpack_from("<Q", rest)
            value, rest = rest[8 : 8 + size], rest[9 + size :]
        fields[name.decode()] = value
        data = rest
    return fields


@pytest.fixture
def receiver(tmp_path):
    made = Receiver(tmp_path / "socket")
    yield made
    made.close()


@pytest.fixture
def courier(tmp_path):
    made = Courier(str(tmp_path / "socket"))
    yield made
    made.close()


def test_a_line_in_the_journal_says_whose_it_is(receiver, courier):
    sink = JournalSink(courier, "web", "stderr")

    assert sink.write(b"41 one\n41 \n42 \xff\x00\n") == 17
    assert receiver.fields() == {
        "MESSAGE": b"one", "PRIORITY": b"4", "SYSLOG_FACILITY": b"3",
        "SYSLOG_IDENTIFIER": b"web", "SUPERVISORD_SERVICE": b"web", "SUPERVISORD_RUN": b"41",
        "SUPERVISORD_STREAM": b"stderr",
    }  # fmt: skip
    assert receiver.fields()["MESSAGE"] == b""
    last = receiver.fields()
    assert (last["MESSAGE"], last["SUPERVISORD_RUN"]) == (b"\xff\x00", b"42")


def test_a_line_in_the_journal_names_process_and_group_as_far_as_they_are_known(receiver, courier):
    lookup = Lookup()
    lookup.use_group("web", "sites")
    for run in range(1, RUNS_KEPT + 3):
        lookup.use_pid("web", run, 4000 + run)
    for stream in ("stdout", "hook"):
        JournalSink(courier, "web", stream, lookup).write(b"10 latest\n2 old\n3 kept\n")
    found = [receiver.fields() for _ in range(6)]

    assert [one.get("OBJECT_PID") for one in found] == [b"4010", None, b"4003", None, None, None]
    assert {one["SUPERVISORD_GROUP"] for one in found} == {b"sites"}
    lookup.forget("web")
    JournalSink(courier, "web", "stdout", lookup).write(b"10 gone\n")
    assert {"OBJECT_PID", "SUPERVISORD_GROUP"}.isdisjoint(receiver.fields())


def test_what_is_too_long_for_a_datagram_goes_as_a_file(receiver, courier):
    data = b"x" * (1 << 20)
    assert JournalSink(courier, "web", "stdout").write(b"1 " + data + b"\n") == len(data) + 3

    entry, files = receiver.receive()
    assert files == 1
    assert parsed(entry)["MESSAGE"] == data


def test_values_with_newlines_have_their_length_before_them():
    fields = {"MESSAGE": "one\ntwo", "PRIORITY": 6}

    assert parsed(journal.message(fields)) == {"MESSAGE": b"one\ntwo", "PRIORITY": b"6"}


def test_an_event_in_the_journal_has_its_fields():
    event = {
        "ts": "2026-11-23T14:02:11.002Z", "level": "warning", "event": "service.exited",
        "seq": 918, "service": "web", "group": "sites", "run": 41, "pid": 4117,
        "cause": "exit_code", "exit_code": 1, "signal": None,
    }  # fmt: skip
    fields = journal.fields_of(event)

    assert fields["MESSAGE"].startswith("service.exited web ")
    assert fields["PRIORITY"] == 4
    assert fields["SYSLOG_IDENTIFIER"] == "supervisord-pidfd"
    assert fields["OBJECT_PID"] == 4117
    assert fields["SUPERVISORD_GROUP"] == "sites"
    assert fields["SUPERVISORD_EXIT_CODE"] == 1
    assert "SUPERVISORD_SIGNAL" not in fields
    assert fields["MESSAGE_ID"] == journal.message_id("service.exited")
    assert len(fields["MESSAGE_ID"]) == 32


def test_syslog_gets_the_form_of_the_c_library(receiver, courier):
    SyslogSink(courier, "web", "stdout").write(b"41 GET / \x1b[0m\n")
    data, _ = receiver.receive()
    head, _, text = data.partition(b" web: ")

    assert text == b"GET / \\x1b[0m"
    assert head.startswith(b"<30>")
    assert len(head) == len(b"<30>Nov 26 01:02:03")


def test_a_long_line_becomes_several_messages_for_syslog(receiver, courier):
    SyslogSink(courier, "web", "stderr").write(b"1 " + b"x" * 20_000 + b"\n")
    parts = [receiver.receive()[0].partition(b" web: ")[2] for _ in range(3)]

    assert b"".join(parts) == b"x" * 20_000


@pytest.mark.parametrize("kind", [JournalSink, SyslogSink])
def test_a_receiver_that_does_not_read_is_not_waited_for(receiver, courier, kind):
    sink = kind(courier, "web", "stdout")
    data = b"1 line\n" * 5000
    taken = sink.write(data)

    assert 0 < taken < len(data)
    assert taken % 7 == 0
    assert sink.waits_on() is not None
    for _ in range(taken // 7):
        receiver.receive()
    assert sink.write(data[taken:]) > 0


def test_a_receiver_that_is_away_is_an_error_until_it_is_back(tmp_path, courier):
    sink = JournalSink(courier, "web", "stdout")
    for _ in range(2):
        with pytest.raises(SinkError) as caught:
            sink.write(b"1 lost\n")
        assert caught.value.error == "ENOENT"
        assert sink.waits_on() is None
        receiver = Receiver(tmp_path / "socket")
        assert sink.write(b"1 here\n") == 7
        assert receiver.fields()["MESSAGE"] == b"here"
        receiver.close()


def test_a_receiver_that_was_started_again_is_found(tmp_path, courier):
    sink = JournalSink(courier, "web", "stdout")
    for number in range(3):
        receiver = Receiver(tmp_path / "socket")
        assert sink.write(b"1 %d\n" % number) == 4
        assert receiver.fields()["MESSAGE"] == b"%d" % number
        receiver.close()


# -- the logger as a process ----------------------------------------------------------------------


@pytest.fixture
def logging():
    made = Logging()
    yield made
    made.close()


def test_services_share_standard_output_as_json(logging, ends):
    logging.start(stdout=ends[1])
    lines = {}
    for name in ("web", "db"):
        logging.use(name, "", to=("stdout",))
        outlet = logging.open(name, run=3)
        lines[name] = [f"{name} {number}" for number in range(300)]
        write_all(outlet.ends[0], "".join(f"{line}\n" for line in lines[name]).encode())
        write_all(outlet.ends[1], b'{"level":"info","msg":"already JSON","run":9}\n')
        outlet.let_go()
    logging.drained()
    found = [json.loads(line) for line in read_all(ends[0]).splitlines()]

    for name, written in lines.items():
        own = [line for line in found if line["service"] == name]
        assert [line["msg"] for line in own if line["stream"] == "stdout"] == written
        (passed,) = [line for line in own if line["stream"] == "stderr"]
        assert (passed["msg"], passed["run"], passed["app_run"]) == ("already JSON", 3, 9)
    assert logging.finish() == 0


@pytest.mark.parametrize("overflow", [Overflow.BLOCK, Overflow.DROP, Overflow.DROP_NEWEST])
def test_a_standard_output_nobody_reads_costs_lines_which_are_counted(logging, ends, overflow):
    logging.start(stdout=ends[1])
    logging.use("web", "", to=("stdout",), format=LogFormat.RAW, overflow=overflow, block_for=0.2)
    outlet = logging.open("web")
    sent = b"".join(b"%07d\n" % number for number in range(125_000))
    write_all(outlet.ends[0], sent)  # a megabyte: taken in time although nobody reads
    outlet.let_go()
    counters, slot = logging.taps.counters, logging.taps.slot("web")
    logging.until(lambda: counters.read(slot).stdout_bytes == len(sent))
    os.close(ends[1])
    found = bytearray()

    def read():
        while some := os.read(ends[0], 1 << 16):
            found.extend(some)

    reader = threading.Thread(target=read)
    reader.start()
    logging.drained()
    assert logging.finish() == 0
    reader.join()
    lines = [line for line in bytes(found).split(b"\n") if len(line) == 7 and line.isdigit()]
    counted = logging.taps.counters.read(logging.taps.slot("web"))

    assert len(sent) - 8 * len(lines) == counted.overflow_bytes
    assert lines == sorted(set(lines))
    assert b" dropped: overflow" in found
