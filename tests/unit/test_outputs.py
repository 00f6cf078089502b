"""What services write, as clients and observers meet it: who is told, handed over, refused."""

from types import SimpleNamespace

import pytest

from supervisord_pidfd.core.events import BecameReady
from supervisord_pidfd.core.lifecycle import Phase, ServiceState
from supervisord_pidfd.core.notices import (
    LogDropped,
    LogReopened,
    LogResumed,
    LogRotated,
    LogWriteFailed,
    Told,
)
from supervisord_pidfd.core.spec import Output, ReadyKind, ReadySpec, ServiceSpec
from supervisord_pidfd.outputs import NAMES_BYTES, TEXT_KEPT, News, Outputs, Sources


class Service:
    """Keep what a service is told."""

    def __init__(self, name="web", output=Output.CAPTURED, kind=ReadyKind.LOG, **state):
        self.name = name
        self.spec = ServiceSpec(name, ("x",), output=output, ready=ReadySpec(kind))
        self.state = ServiceState(**state)
        self.posted, self.notices = [], []

    def post(self, event):
        self.posted.append(event)

    def tell(self, notice):
        self.notices.append(notice)


class Taps:
    """Keep what the logger would be asked."""

    def __init__(self, *, is_open=True):
        self.line = SimpleNamespace(is_open=is_open)
        self.reopenings, self.handed = [], []

    def reopen(self, request):
        self.reopenings.append(request)

    def hand_client(self, parameters, client):
        self.handed.append((parameters, client))


class Call:
    """Keep the answer to a call."""

    def __init__(self, client=7, **parameters):
        self.parameters = {"names": None, "last": None, "follow": None} | parameters
        self.answer = None
        self._client = client

    def take_client(self):
        return self._client

    def reply(self, parameters):
        self.answer = parameters

    def error(self, name, parameters):
        self.answer = (name.rpartition(".")[2], parameters)


class Bench:
    """News and answers about some services."""

    def __init__(self, *services, is_open=True):
        self.services = {service.name: service for service in services}
        self.told = []
        self.taps = Taps(is_open=is_open)
        self.news = News(Sources(lambda: self.services, self.told.append))
        answers = SimpleNamespace(named=lambda _call, names: tuple(names))
        self.outputs = Outputs(self.taps, self.news, self.services, answers)

    def logs(self, **parameters):
        call = Call(**parameters)
        self.outputs.logs(call)
        return call.answer


# -- what the logger says -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "kind", "posted"),
    [
        ({"run": 3, "phase": Phase.STARTING}, ReadyKind.LOG, [BecameReady("log")]),
        ({"run": 4, "phase": Phase.STARTING}, ReadyKind.LOG, []),
        ({"run": 3, "phase": Phase.STOPPING}, ReadyKind.LOG, []),
        ({"run": 3, "phase": Phase.STARTING}, ReadyKind.FD, []),
    ],
)
def test_a_line_makes_ready_the_run_that_has_written_it_and_waits_for_one(state, kind, posted):
    service = Service(kind=kind, **state)
    Bench(service).news.told().ready("web", 3)

    assert service.posted == posted


def test_a_line_of_nobody_makes_nobody_ready():
    bench = Bench()
    bench.news.told().ready("gone", 1)

    assert bench.told == []


@pytest.mark.parametrize(
    ("event", "said", "notice"),
    [
        ("log.rotated", {"path": "/l"}, LogRotated("/l")),
        ("log.reopened", {"files": 1}, LogReopened(1)),
        ("log.write_failed", {"path": "/l", "error": "EIO"}, LogWriteFailed("/l", "EIO")),
        ("log.resumed", {"path": "/l", "blocked_s": 1.5}, LogResumed("/l", 1.5)),
        (
            "log.dropped",
            {"stream": "stdout", "lines": 2, "bytes": 9, "reason": "overflow", "from": "a"},
            LogDropped("stdout", 2, 9, "overflow", "a", None),
        ),
        ("log.rotated", {"path": "x" * 9999}, LogRotated("x" * TEXT_KEPT)),
        ("log.resumed", {"path": None, "blocked_s": "soon"}, LogResumed("", 0.0)),
    ],
)
def test_what_the_logger_says_becomes_a_notice_of_its_service(event, said, notice):
    service = Service()
    bench = Bench(service)
    bench.news.told().tell(event, {"service": "web", **said})

    assert (service.notices, bench.told) == ([notice], [])


def test_news_of_a_service_that_is_gone_keep_its_name():
    bench = Bench()
    bench.news.told().tell("log.rotated", {"service": "gone", "path": "/l"})
    bench.news.told().tell("log.rotated", {"service": 3, "path": "/l"})

    assert bench.told == [Told(LogRotated("/l"), "gone"), Told(LogRotated("/l"), None)]


def test_what_the_logger_has_no_word_for_is_passed_over():
    service = Service()
    bench = Bench(service)
    bench.news.told().tell("daemon.stopped", {"service": "web"})

    assert (service.notices, bench.told) == ([], [])


def test_bytes_that_no_logger_was_given_are_told_as_dropped():
    service = Service()
    Bench(service).news.told().lost("web", "stderr", 12)

    assert service.notices == [LogDropped("stderr", 0, 12, "overflow", None, None)]


def test_each_request_to_reopen_gets_its_own_answer_and_older_ones_none():
    bench = Bench()
    answers = []
    for name in ("first", "second", "third"):
        bench.news.ask_to_reopen(
            bench.taps, lambda files, name=name: answers.append((name, files))
        )
    told = bench.news.told()
    told.reopened(2, 2)
    told.reopened(1, 1)  # by a logger that has answered a later one
    told.reopened(3, 3)

    assert bench.taps.reopenings == [1, 2, 3]
    assert answers == [("second", 2), ("third", 3)]
    assert bench.told == [Told(LogReopened(files)) for files in (2, 1, 3)]


# -- what clients ask -----------------------------------------------------------------------------


def test_a_client_of_logs_is_handed_over_with_the_names_that_have_lines():
    bench = Bench(Service("web"), Service("db", Output.INHERIT))
    assert bench.logs(names=["web", "db"], last=5) is None
    assert bench.logs() is None

    assert bench.taps.handed == [
        ({"names": ["web"], "last": 5, "follow": None}, 7),
        ({"names": None, "last": None, "follow": None}, 7),
    ]


def test_a_client_that_has_gone_is_not_handed_over():
    bench = Bench(Service("web"))
    bench.logs(client=None)

    assert bench.taps.handed == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["db"], "the output of db is not captured (service.NAME.log.to)"),
        (None, "no service's output is captured (service.NAME.log.to)"),
    ],
)
def test_output_that_nobody_captures_is_refused(names, message):
    bench = Bench(Service("db", Output.DIRECT))

    said = {"reason": "not_captured", "message": message}
    assert bench.logs(names=names) == ("Refused", said)


def test_without_a_logger_lines_and_reopening_are_refused():
    bench = Bench(Service("web"), is_open=False)
    call = Call()
    bench.outputs.reopen_logs(call)

    for answer in (bench.logs(), call.answer):
        assert (answer[0], answer[1]["reason"]) == ("Refused", "no_logger")
    assert bench.taps.reopenings == []


def test_more_names_than_a_message_has_room_for_are_refused():
    names = [f"{number:0200}" for number in range(NAMES_BYTES // 200)]
    bench = Bench(*map(Service, names))

    assert bench.logs(names=names) == ("InvalidParameter", {"parameter": "names"})
    assert bench.logs(names=names[:10]) is None


def test_a_reopening_is_answered_with_the_number_of_files():
    bench = Bench()
    call = Call()
    bench.outputs.reopen_logs(call)
    bench.news.told().reopened(4, 1)

    assert call.answer == {"files": 4}
