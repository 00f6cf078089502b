"""What a service says of itself, heard from real processes."""

import os
import shutil
import signal
import socket
import sys

import pytest

from supervisord_pidfd.core.events import ReadinessLost
from supervisord_pidfd.core.lifecycle import Phase
from supervisord_pidfd.core.notices import (
    NotifyRefused,
    ServiceExited,
    ServiceReady,
    ServiceStatusChanged,
)
from supervisord_pidfd.core.spec import (
    CheckKind,
    CheckSpec,
    NotifyAccess,
    ReadyKind,
    ReadySpec,
    RestartPolicy,
    ServiceType,
)
from supervisord_pidfd.readiness import LOST_AFTER
from tests.support.attended import Attended
from tests.support.lone import restarting
from tests.support.world import SH, program

STAY = "stay"


@pytest.fixture
def attend(world, tmp_path):
    made = []

    def begin(*argv, runtime=tmp_path, called="web", **members):
        members.setdefault("type", ServiceType.NOTIFY)
        it = Attended(world, restarting(called, argv, **members), runtime)
        made.append(it)
        return it

    yield begin
    for it in made:
        if it.state.has_process:
            it.stop()
        it.close()


@pytest.fixture
def notify(attend):
    """Start a service that says these words."""

    def begin(*words, **members):
        it = attend(*program("notifier", *words), **members)
        it.start()
        return it

    return begin


def descriptors():
    return set(os.listdir("/proc/self/fd"))


# -- ready ----------------------------------------------------------------------------------------


def test_ready_makes_it_ready(notify):
    web = notify("READY=1", STAY)

    assert web.wait_for(ServiceReady).way == "notify"
    assert web.state.phase is Phase.RUNNING
    assert web.counted == {"accepted": 1}


def test_an_abstract_address_serves_where_there_is_no_directory(notify):
    web = notify("READY=1", STAY, runtime=None)

    assert web.wait_for(ServiceReady).way == "notify"


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="systemd-notify is not installed")
def test_the_real_systemd_notify_of_a_shell_makes_it_ready(attend):
    shell = (SH, "-c", "systemd-notify --ready --status='serving 3'; exec sleep 60")
    web = attend(*shell, notify_access=NotifyAccess.ALL)
    web.start()

    assert web.wait_for(ServiceReady).way == "notify"
    assert web.service.status_text == "serving 3"


def test_the_sdnotify_package_makes_it_ready(attend):
    text = (
        "import sdnotify, signal; n = sdnotify.SystemdNotifier(debug=True);"
        "n.notify('STATUS=up'); n.notify('READY=1'); signal.pause()"
    )
    web = attend(sys.executable, "-c", text)
    web.start()

    assert web.wait_for(ServiceReady).way == "notify"
    assert web.service.status_text == "up"


@pytest.mark.slow
def test_ready_just_before_the_end_is_never_lost(notify):
    web = notify("READY=1", "exit:0")
    web.wait_for(ServiceExited, 60)
    ready, ended = len(web.found(ServiceReady)), len(web.found(ServiceExited))
    web.service.use(web.service.spec._replace(restart=RestartPolicy.NO))
    web.world.turn_until(lambda: web.state.phase in {Phase.EXITED, Phase.FAILED})

    assert ready >= ended >= 60
    assert {exited.cause for exited in web.found(ServiceExited)} == {"success"}


def test_ready_behind_a_row_of_others_is_not_lost_with_the_process(notify):
    words = [f"STATUS={number}" for number in range(9)]
    web = notify(*words, "READY=1", "exit:0", restart=RestartPolicy.NO)
    web.world.turn_until(lambda: web.state.phase in {Phase.EXITED, Phase.FAILED})

    assert len(web.found(ServiceReady)) == 1
    assert web.state.phase is Phase.EXITED


def test_each_run_has_a_socket_of_its_own_and_late_words_go_nowhere(notify, tmp_path):
    web = notify("READY=1", STAY)
    web.wait_for(ServiceReady)
    first = tmp_path / "notify" / "web.1"
    assert first.exists()
    web.service.pass_on(signal.SIGKILL)
    web.wait_for(ServiceReady, 2)

    assert not first.exists()
    assert [path.name for path in (tmp_path / "notify").iterdir()] == ["web.2"]
    web.stop()
    assert list((tmp_path / "notify").iterdir()) == []


def test_the_socket_is_for_the_service_alone(notify, tmp_path):
    notify("READY=1", STAY).wait_for(ServiceReady)

    assert (tmp_path / "notify").stat().st_mode & 0o777 == 0o711
    assert (tmp_path / "notify" / "web.1").stat().st_mode & 0o777 == 0o600


def test_a_long_place_gets_a_short_name(notify, tmp_path):
    room = 107 - len(str(tmp_path)) - len("/notify/web.1")
    deep = tmp_path / ("d" * (room - 10))
    deep.mkdir()
    longer = deep / "123456789"
    longer.mkdir()
    web = notify("READY=1", STAY, runtime=longer)

    assert web.wait_for(ServiceReady).way == "notify"


# -- who may speak --------------------------------------------------------------------------------


def test_a_child_may_not_speak_for_the_main_process(notify):
    web = notify("child:", "READY=1", "STATUS=mine", STAY)
    web.wait_for(ServiceStatusChanged)

    assert web.found(ServiceReady) == []
    assert [refused.reason for refused in web.found(NotifyRefused)] == ["sender"]
    assert web.counted == {"refused": 1, "accepted": 1}


def test_a_child_that_is_gone_is_believed_where_all_may_speak(notify):
    web = notify("child:", "READY=1", STAY, notify_access=NotifyAccess.ALL)

    assert web.wait_for(ServiceReady).way == "notify"


@pytest.mark.parametrize("access", list(NotifyAccess))
def test_a_stranger_is_refused(notify, tmp_path, access):
    web = notify("STATUS=here", STAY, notify_access=access)
    web.wait_for(ServiceStatusChanged)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
        stranger.sendto(b"READY=1", str(tmp_path / "notify" / "web.1"))
    refused = web.wait_for(NotifyRefused)

    assert refused == NotifyRefused("sender", os.getpid())
    assert web.found(ServiceReady) == []


def test_a_main_pid_that_is_not_of_the_service_is_refused(notify):
    web = notify(f"READY=1\\nMAINPID={os.getpid()}", STAY)
    web.wait_for(ServiceReady)

    assert web.wait_for(NotifyRefused).reason == "main_pid"
    assert web.service.main_pid != os.getpid()


# -- bad messages ---------------------------------------------------------------------------------


def test_bad_messages_are_counted_and_harm_nobody(notify):
    words = ["", "x" * 5000, "NOTHING=1", "\udcff\udcfe", "READY=1"]
    web = notify(*words, STAY)
    web.wait_for(ServiceReady)

    assert web.counted == {"refused": 2, "ignored": 2, "accepted": 1}
    assert {refused.reason for refused in web.found(NotifyRefused)} == {"empty", "too_long"}


def test_the_same_refusal_is_told_once_and_counted_each_time(notify):
    web = notify(*[""] * 20, "READY=1", STAY)
    web.wait_for(ServiceReady)

    assert web.counted["refused"] == 20
    assert len(web.found(NotifyRefused)) == 1


def test_attached_descriptors_do_not_leak_and_a_barrier_works(notify):
    words = []
    for _ in range(50):
        words += ["fds:3", "STATUS=x"]
    web = notify("STATUS=begin", *words, "barrier", "READY=1", STAY)
    web.wait_for(ServiceStatusChanged)
    before = descriptors()
    web.wait_for(ServiceReady)

    assert descriptors() - before == set()
    assert web.counted["refused"] == 50
    assert web.found(NotifyRefused)[0].reason == "descriptors"


def test_a_flood_does_not_hold_up_another_service(world, tmp_path, attend):
    (tmp_path / "other").mkdir()
    flood = (
        "import os, socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM);"
        "s.connect(os.environ['NOTIFY_SOCKET'])\n"
        "for _ in range(100000): s.send(b'STATUS=flood')"
    )
    loud = attend(sys.executable, "-c", flood)
    loud.start()
    loud.wait_for(ServiceStatusChanged)
    calm = attend(*program("notifier", "READY=1", STAY), runtime=tmp_path / "other", called="calm")
    calm.start()
    turns = world.loop.turn
    ready = calm.wait_for(ServiceReady)

    assert loud.counted["accepted"] > 100
    assert ready.took_s < 5
    assert world.loop.turn > turns


# -- the descriptor store -------------------------------------------------------------------------

STORE = """
import os, signal, socket
address = os.environ["NOTIFY_SOCKET"]
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect(address)
count = int(os.environ.get("LISTEN_FDS", "0"))
if count == 0:
    ours, theirs = socket.socketpair()
    ours.send(b"kept")
    socket.send_fds(sender, [b"FDSTORE=1\\nFDNAME=pair"], [ours.fileno(), theirs.fileno()])
    sender.send(b"STATUS=stored\\nREADY=1")
else:
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    said = socket.socket(fileno=4).recv(10).decode()
    sender.send(f"STATUS={count} {os.environ['LISTEN_FDNAMES']} {said}\\nREADY=1".encode())
signal.pause()
"""


def test_stored_descriptors_come_back_in_the_next_run(attend):
    web = attend(sys.executable, "-c", STORE, fdstore_max=4)
    web.start()
    assert web.wait_for(ServiceReady)
    assert web.service.status_text == "stored"
    web.service.pass_on(signal.SIGKILL)
    web.wait_for(ServiceReady, 2)

    assert web.service.status_text == "2 pair:pair kept"


def test_a_stop_for_good_drops_what_is_stored(attend):
    before = descriptors()
    web = attend(sys.executable, "-c", STORE, fdstore_max=4)
    web.start()
    web.wait_for(ServiceReady)
    web.stop()
    web.world.loop.run_once(0)

    assert descriptors() - before == set()


def test_more_descriptors_than_may_be_kept_are_refused_and_closed(notify):
    web = notify("fds:5", "FDSTORE=1", "barrier", "READY=1", STAY, fdstore_max=2)
    web.wait_for(ServiceReady)

    assert web.found(NotifyRefused)[0].reason == "descriptors"


# -- the watchdog and the environment -------------------------------------------------------------


def test_a_watchdog_is_told_its_time_and_its_pings_make_it_healthy(attend):
    check = CheckSpec("dog", CheckKind.WATCHDOG, period=20.0, failures=1)
    text = f'{SH} -c : ; test "$WATCHDOG_USEC" = 20000000 && exec "$0" "$@"'
    argv = (SH, "-c", text, *program("notifier", "READY=1", "WATCHDOG=1", STAY))
    web = attend(*argv, checks=(check,))
    web.start()
    web.wait_for(ServiceReady)
    web.world.turn_until(lambda: "dog" in web.state.checked)

    assert web.state.failing == ()
    assert web.service.checks["dog"].runs == {"success": 1}


def test_a_service_that_has_nothing_to_say_gets_no_socket(attend, tmp_path):
    web = attend(SH, "-c", '[ -z "$NOTIFY_SOCKET" ] && exec sleep 60', type=ServiceType.SIMPLE)
    web.start()
    web.wait_for(ServiceReady)

    assert list((tmp_path / "notify").iterdir()) == []
    assert web.service.companions == ()


# -- the readiness descriptor ---------------------------------------------------------------------


def by_fd(attend, text, fd=3, **members):
    ready = ReadySpec(ReadyKind.FD, fd=fd)
    web = attend(SH, "-c", text, type=ServiceType.SIMPLE, ready=ready, **members)
    web.start()
    return web


@pytest.mark.parametrize("fd", [3, 9])
@pytest.mark.parametrize("fast", [True, False])
def test_a_newline_on_the_descriptor_makes_it_ready(attend, fd, fast):
    web = by_fd(attend, f"printf 'abc' >&{fd}; echo >&{fd}; exec sleep 60", fd, fast=fast)

    assert web.wait_for(ServiceReady).way == "fd"


def test_other_bytes_do_not(attend):
    web = by_fd(attend, "printf abc >&3; exit 3", restart=RestartPolicy.NO)
    exited = web.wait_for(ServiceExited)

    assert web.found(ServiceReady) == []
    assert exited.exit_code == 3


def test_a_newline_just_before_the_end_counts(attend):
    web = by_fd(attend, "echo >&3; exit 0", restart=RestartPolicy.NO)
    web.world.turn_until(lambda: web.state.phase in {Phase.EXITED, Phase.FAILED})

    assert len(web.found(ServiceReady)) == 1


def posted(web, monkeypatch):
    """Keep the kinds of events that the service is told."""
    kinds, post = [], web.service.post

    def keep(event):
        kinds.append(type(event))
        post(event)

    monkeypatch.setattr(web.service, "post", keep)
    return kinds


def test_closing_it_without_a_word_is_told(attend, monkeypatch):
    web = by_fd(attend, "exec 3>&-; exec sleep 60", restart=RestartPolicy.NO)
    kinds = posted(web, monkeypatch)
    web.world.turn_until(lambda: ReadinessLost in kinds)

    assert web.found(ServiceReady) == []


def test_the_end_of_the_process_is_not_told_as_a_loss(attend, monkeypatch):
    web = by_fd(attend, "exit 3", restart=RestartPolicy.NO)
    kinds = posted(web, monkeypatch)
    exited = web.wait_for(ServiceExited)
    web.world.loop.run_once(2 * LOST_AFTER)

    assert (exited.cause, exited.exit_code) == ("exit_code", 3)
    assert ReadinessLost not in kinds
