"""The gateway's way to the core: its socket, and the client that it uses."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat

import pytest

from supervisord_pidfd.gateway.core import (
    READ_AHEAD_BYTES,
    ControlError,
    CoreClient,
    held,
    within_of,
)
from tests.support.varlink import Varlink, VarlinkError
from tests.system.helpers import kill, sh

pytestmark = pytest.mark.once

WEB = (
    "metrics.listen = '127.0.0.1:0'\n"
    "[service.web]\nlog.to = ['file']\n"
    + sh("echo one; echo two; exec sleep 1000")
    + "[service.late]\nready.delay = '1h'\ncommand = 'sleep 1000'\n"
)


@pytest.fixture
def up(daemon):
    """Start a daemon with a gateway, and give the path of its socket."""
    daemon.start(WEB, "--set", f"supervisor.log_dir={daemon.home / 'log'}")
    daemon.wait_for("gateway.listening")
    daemon.wait_for("service.ready", service="web")
    return daemon.home / "run" / "gateway.sock"


def do(daemon, work):
    """Run something with a client of the control socket, which asks as the gateway does."""
    return asyncio.run(asyncio.wait_for(work(CoreClient(str(daemon.socket))), 20))


# -- the socket -----------------------------------------------------------------------------------


def test_the_socket_is_for_the_gateway_alone_and_ends_with_the_daemon(daemon, up):
    status = up.stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_uid != 0) or os.geteuid() != 0, "root's gateway is not root"

    with Varlink(up) as stranger, pytest.raises(VarlinkError, match="PermissionDenied"):
        stranger.call("Status")

    daemon.wait_for("control.refused", reason="permission")
    assert daemon.stop() == 0
    assert not up.exists()


def test_the_socket_comes_and_goes_with_the_gateway(daemon):
    path = daemon.home / "run" / "gateway.sock"
    bare = WEB.partition("\n")[2]
    daemon.start(bare)
    daemon.wait_for("daemon.ready")
    assert not path.exists()

    daemon.reload("web.listen = '127.0.0.1:0'\n" + bare)
    assert daemon.wait_for("gateway.listening")["serves"] == "web"
    assert path.exists()

    daemon.reload(bare)
    assert not path.exists()


def test_without_the_socket_metrics_and_health_are_served_all_the_same(daemon):
    (daemon.home / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(daemon.home / "run" / "gateway.sock"))
        other.listen()
        daemon.start("web.listen = '127.0.0.1:0'\n" + WEB)
        told = daemon.wait_for("control.unavailable")
        assert told["path"].endswith("gateway.sock")
        assert told["error"] == "EADDRINUSE"
        for _ in range(2):
            host, _, port = daemon.wait_for("gateway.listening")["address"].rpartition(":")
            with socket.create_connection((host, int(port)), timeout=10) as client:
                client.sendall(b"GET /healthz HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
                assert b" 200 " in client.recv(4096)


def test_a_gateway_that_hangs_or_is_killed_costs_services_nothing(daemon, up):
    gateway = daemon.told("service.spawned", ":gateway")[0]["pid"]
    os.kill(gateway, signal.SIGSTOP)
    kill(daemon.told("service.spawned", "web")[0]["pid"])
    daemon.wait_for("service.ready", "web", run=2)
    with daemon.client() as client:
        assert client.call("Stop", names=["web"])["outcomes"][0]["ok"]

        kill(gateway)
        daemon.wait_for("gateway.listening")
        everything = client.call("Status", all=True)["services"]
        (found,) = (one for one in everything if one["name"] == ":gateway")
        assert (found["restarts"], found["last_exit"]["signal"]) == (1, "SIGKILL")
    assert [event["run"] for event in daemon.told("service.spawned", "late")] == [1]


# -- the client -----------------------------------------------------------------------------------


def test_a_call_is_answered_or_refused(daemon, up):
    async def work(core):
        reply = await core.call("Status", names=["web"], all=None)
        with pytest.raises(ControlError) as refused:
            await core.call("Explain", name="wbe")
        with pytest.raises(ControlError) as wrong:
            await core.call("Explain", name=3)
        return reply, refused.value, wrong.value

    reply, refused, wrong = do(daemon, work)

    assert [service["name"] for service in reply["services"]] == ["web"]
    assert (refused.name, refused.parameters["name"]) == ("NoSuchService", "wbe")
    assert (wrong.name, wrong.parameters) == ("InvalidParameter", {"parameter": "name"})


def test_a_stream_gives_each_answer_until_it_is_closed(daemon, up):
    async def work(core):
        async with contextlib.aclosing(core.stream("Watch")) as told:
            async for reply in told:
                if reply["synced"]:
                    break
            await core.call("Reset", names=["web"])
            await core.call("Stop", names=["web"])
            async for reply in told:
                for service in reply.get("services") or ():
                    if service["phase"] == "stopped":
                        return service["name"]
        return None

    assert do(daemon, work) == "web"


def test_logs_are_followed_though_another_process_answers(daemon, up):
    async def work(core):
        said = []
        async with contextlib.aclosing(core.stream("Logs", names=["web"], follow=True)) as lines:
            async for reply in lines:
                said.append(reply["line"]["msg"])
                if len(said) == 2:
                    await core.call("Restart", names=["web"])
                if len(said) == 4:
                    return said
        return said

    assert do(daemon, work) == ["one", "two"] * 2


def test_whoever_is_cancelled_leaves_nothing_behind(daemon, up):
    async def work(core):
        waiting = asyncio.create_task(core.call("Wait", names=["late"], condition="ready"))
        await core.call("Status")
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return await core.call("Status", names=["late"])

    assert do(daemon, work)["services"][0]["phase"] == "starting"


def test_a_core_that_is_not_there_is_an_error_of_the_connection(tmp_path):
    async def work():
        for path in (None, str(tmp_path / "none.sock")):
            with pytest.raises(ConnectionError):
                await CoreClient(path).call("Status")
            with pytest.raises(ConnectionError):
                await anext(CoreClient(path).stream("Watch"))

    asyncio.run(work())


def test_the_socket_is_reached_by_its_directory_which_stays_open(tmp_path):
    """As when root's gateway has become somebody who may not go where the directory is."""

    async def answer(_reader, writer):
        writer.write(b'{"parameters":{}}\0')
        writer.close()

    async def work():
        (tmp_path / "run").mkdir()
        path = held(str(tmp_path / "run" / "core.sock"))
        assert path != str(tmp_path / "run" / "core.sock")
        try:
            (tmp_path / "run").rename(tmp_path / "elsewhere")
            async with await asyncio.start_unix_server(answer, tmp_path / "elsewhere/core.sock"):
                return await CoreClient(path).call("Status")
        finally:
            os.close(int(path.split("/")[4]))

    assert asyncio.run(work()) == {}
    assert held(None) is None
    assert held("/no/such/directory/core.sock") == "/no/such/directory/core.sock"


@pytest.mark.parametrize("size", [1, READ_AHEAD_BYTES, 5 * READ_AHEAD_BYTES + 1])
def test_an_answer_may_be_longer_than_what_is_read_ahead(tmp_path, size):
    async def answer(_reader, writer):
        for last in (False, True):
            said = {"parameters": {"text": "x" * size}, "continues": not last}
            writer.write(json.dumps(said).encode() + b"\0")
        writer.close()

    async def work():
        path = str(tmp_path / "core.sock")
        async with await asyncio.start_unix_server(answer, path):
            return [len(said["text"]) async for said in CoreClient(path).stream("Watch")]

    assert asyncio.run(work()) == [size, size]


@pytest.mark.parametrize("said", [b"no json\0", b"[]\0", b"half of"])
def test_an_answer_without_sense_is_an_error_of_the_connection(tmp_path, said):
    async def answer(_reader, writer):
        writer.write(said)
        writer.close()

    async def work():
        path = str(tmp_path / "core.sock")
        async with await asyncio.start_unix_server(answer, path):
            with pytest.raises(ConnectionError):
                await CoreClient(path).call("Status")

    asyncio.run(work())


@pytest.mark.parametrize(
    ("method", "parameters", "within"),
    [
        ("Status", {}, 10), ("Plan", {}, 60), ("Wait", {}, None), ("Stop", {"wait": False}, 10),
        ("Start", {"timeout_s": 5}, 15), ("Apply", {"timeout_s": 5.0}, 65), ("Signal", {}, 10),
    ],
)  # fmt: skip
def test_only_what_waits_for_services_may_take_long(method, parameters, within):
    assert within_of(method, parameters) == within
