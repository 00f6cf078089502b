"""The daemon's own events in a file, the journal and syslog."""

import json
import socket
import threading

import pytest

from supervisord_pidfd.core.spec import LogFormat, LogSpec, dump
from supervisord_pidfd.logger.datagrams import Courier
from supervisord_pidfd.logger.own import Own

DEADLINE_S = 20


def event(seq, **fields):
    head = {"ts": "2026-11-23T14:02:11.002Z", "level": "info", "event": "daemon.ready"}
    return json.dumps(head | {"seq": seq, "took_s": 0.5} | fields).encode()


@pytest.fixture
def own(tmp_path):
    couriers = [Courier(str(tmp_path / name)) for name in ("journal", "syslog")]
    made = Own(*couriers)
    yield made
    made.close()
    for courier in couriers:
        courier.close()


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").mkdir()
    return tmp_path / "log" / "supervisord.log"


def use(own, **spec):
    own.use(dump(LogSpec(**spec)))
    own.settle()


def take(own, line):
    own.take(line)
    assert own._aside.wait(DEADLINE_S)


def objects(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_without_a_word_events_go_to_standard_output_alone(own):
    own.use({})
    own.settle()
    take(own, event(1))

    assert own.wants_stdout
    assert own.settled.is_set()


def test_a_file_has_events_as_json(own, log):
    use(own, to=("file",), path=str(log))
    take(own, event(1))
    take(own, b"no event")

    assert not own.wants_stdout
    first, second = objects(log)
    assert (first["event"], first["seq"]) == ("daemon.ready", 1)
    assert (second["event"], second["text"]) == ("log.unreadable", "no event")
    assert log.stat().st_mode & 0o777 == 0o640


def test_a_file_has_events_as_text_if_that_is_wanted(own, log):
    use(own, to=("file", "stdout"), path=str(log), format=LogFormat.TEXT)
    take(own, event(1))

    assert own.wants_stdout
    assert log.read_text().split(" ", 2)[2] == "-- daemon.ready took_s=0.5\n"


def test_a_file_is_rotated_between_events(own, log):
    use(own, to=("file",), path=str(log), rotate_size=300, rotate_keep=100)
    for seq in range(20):
        take(own, event(seq))
    files = sorted(
        log.parent.iterdir(), key=lambda path: -int(path.suffix[1:].replace("log", "0"))
    )

    assert len(files) > 3
    assert [one["seq"] for path in files for one in objects(path)] == list(range(20))


def test_a_file_that_was_renamed_is_made_anew_when_asked_for(own, log):
    use(own, to=("file",), path=str(log))
    take(own, event(1))
    log.rename(log.with_suffix(".old"))
    assert own.reopen() == 1
    own.settle()
    take(own, event(2))

    assert [one["seq"] for one in objects(log)] == [2]


def test_events_that_a_sink_did_not_take_are_told_when_it_does(own, tmp_path):
    use(own, to=("journal",))
    for seq in range(3):
        take(own, event(seq))
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "journal"))
    receiver.settimeout(10)
    take(own, event(3))
    told, after = receiver.recv(1 << 16), receiver.recv(1 << 16)
    receiver.close()

    lost = sum(len(event(seq)) + 1 for seq in range(3))
    assert f"MESSAGE=log.dropped lines=3 bytes={lost} reason=write_error ".encode() in told
    assert b"MESSAGE=daemon.ready took_s=0.5\n" in after
    assert b"SUPERVISORD_EVENT=daemon.ready\n" in after


def test_syslog_has_the_text_of_events(own, tmp_path):
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.bind(str(tmp_path / "syslog"))
    receiver.settimeout(10)
    use(own, to=("syslog",))
    take(own, event(1, level="error"))
    data = receiver.recv(1 << 16)
    receiver.close()

    assert data.startswith(b"<27>")
    assert data.endswith(b" supervisord-pidfd: daemon.ready took_s=0.5")


def test_another_word_takes_effect_with_the_next_events(own, log):
    use(own, to=("file",), path=str(log))
    take(own, event(1))
    use(own, to=("null",))
    take(own, event(2))
    assert not own.wants_stdout
    use(own, to=("file",), path=str(log))
    take(own, event(3))

    assert [one["seq"] for one in objects(log)] == [1, 3]


class Frozen:
    """Be a file on a disk that hangs until it is thawed."""

    def __init__(self):
        self.lines = []
        self.is_reached = threading.Event()
        self._thawed = threading.Event()

    def write(self, data):
        self.is_reached.set()
        assert self._thawed.wait(DEADLINE_S)
        self.lines.append(data)
        return len(data)

    def thaw(self):
        self._thawed.set()

    def close(self):
        """Nothing is open."""


def test_a_disk_that_hangs_costs_events_that_are_told_when_it_goes_on(own, tmp_path, monkeypatch):
    disk = Frozen()
    monkeypatch.setattr("supervisord_pidfd.logger.own.FileSink", lambda *_args, **_more: disk)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journald:
        journald.bind(str(tmp_path / "journal"))
        journald.setblocking(False)
        use(own, to=("file", "journal"), path="/log")
        own.take(event(1))
        assert disk.is_reached.wait(DEADLINE_S)
        long = "x" * (400 << 10)
        for seq in range(2, 6):  # there is room for one megabyte
            own.take(event(seq, text=long))
            assert b"SUPERVISORD_EVENT=daemon.ready" in journald.recv(1 << 20) or seq > 2
        disk.thaw()
        assert own._aside.wait(DEADLINE_S)
        take(own, event(6))
    told = [json.loads(line) for line in disk.lines]

    assert [one.get("seq") for one in told] == [1, 2, 3, None, 6]
    assert (told[3]["event"], told[3]["lines"]) == ("log.dropped", 2)
    assert told[3]["bytes"] == 2 * (len(event(4, text=long)) + 1)
