"""The HTTP server on real sockets, in this process: who waits, who streams, who makes room."""

import asyncio
import contextlib
import socket

import pytest

from supervisord_pidfd.gateway import server as server_module
from supervisord_pidfd.gateway.http import Door, Request, Response
from supervisord_pidfd.gateway.server import CONNECTIONS_MAX, STREAMS_MAX, Server

DEADLINE_S = 20.0
GET = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"


class Pieces:
    """Be a stream that a test feeds; remembers that it was closed."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.closed = asyncio.Event()

    async def __anext__(self):
        piece = await self.queue.get()
        if piece is None:
            raise StopAsyncIteration
        return piece

    async def aclose(self):
        self.closed.set()


class Site:
    """Answer at once, when told to, or with a stream."""

    def __init__(self):
        self.server = Server(self.answer)
        self.asked: list[Request] = []
        self.go = asyncio.Event()
        self.streams = []
        self.left = 0
        self.heartbeat = b""
        self.long = server_module.HELD_MAX_BYTES // 3
        self.shared = bytes(self.long)

    async def answer(self, request):
        self.asked.append(request)
        if request.path == "/wait":
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.left += 1
                raise
        if request.path == "/stream":
            pieces = Pieces()
            self.streams.append(pieces)
            return Response(200, stream=pieces, heartbeat=self.heartbeat)
        if request.path == "/long":
            return Response(200, bytes(self.long))
        return Response(200, self.shared if request.path == "/shared" else b"ok\n")


async def until(condition):
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what we wait for has no event
            await asyncio.sleep(0)


class Client:
    """Hold one connection; every read has a deadline."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    def send(self, data):
        self.writer.write(data)

    async def until(self, separator):
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.readuntil(separator)

    async def head(self):
        """Return the status and the rest of the head."""
        head = await self.until(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]), head.lower()

    async def rest(self):
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()

    async def get(self, path=b"/"):
        self.send(GET % path)
        return (await self.head())[0]


@contextlib.asynccontextmanager
async def serving():
    site = Site()
    async with contextlib.AsyncExitStack() as stack:
        listener = await asyncio.start_server(site.server.at(Door("web")), "127.0.0.1", 0)
        address = listener.sockets[0].getsockname()

        async def connect():
            client = Client(*await asyncio.open_connection(*address))
            stack.callback(client.writer.transport.abort)
            return client

        yield site, connect
    listener.close()
    site.go.set()
    await until(lambda: not site.server._open)


def run(scenario):
    async def whole():
        async with serving() as (site, connect):
            await scenario(site, connect)

    asyncio.run(whole())


def test_a_body_reaches_the_answer():
    async def scenario(site, connect):
        client = await connect()
        client.send(b"POST /x?a=1 HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody")

        assert (await client.head())[0] == 200
        assert (site.asked[0].method, site.asked[0].body) == ("POST", b"body")
        assert site.asked[0].door == Door("web")
        assert site.asked[0].peer == "127.0.0.1"

    run(scenario)


def test_who_asks_before_sending_a_body_is_told_to_go_on():
    async def scenario(site, connect):
        client = await connect()
        client.send(
            b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
        )

        assert (await client.head())[0] == 100
        client.send(b"body")
        assert (await client.head())[0] == 200

    run(scenario)


def test_who_waits_for_an_answer_does_not_make_room():
    async def scenario(site, connect):
        busy = [await connect() for _ in range(CONNECTIONS_MAX)]
        for client in busy:
            client.send(GET % b"/wait")
        await until(lambda: len(site.asked) == CONNECTIONS_MAX)

        status, head = await (await connect()).head()
        assert status == 503
        assert b"retry-after: " in head

        site.go.set()
        assert {(await client.head())[0] for client in busy} == {200}

    run(scenario)


@pytest.mark.slow
def test_who_does_not_read_makes_room(monkeypatch):
    monkeypatch.setattr(server_module, "STALLED_S", 0.0)
    monkeypatch.setitem(server_module._PATIENCE, server_module.Mood.SENDING, 0.0)

    async def scenario(site, connect):
        stalled = await connect()
        stalled.send(GET % b"/stream")
        await stalled.head()
        busy = [await connect() for _ in range(CONNECTIONS_MAX - 1)]
        for client in busy:
            client.send(GET % b"/wait")
        await until(lambda: len(site.asked) == CONNECTIONS_MAX)
        stalled.writer.transport.pause_reading()
        site.streams[0].queue.put_nowait(b"x" * (64 << 20))
        await until(
            lambda: any(one.mood is server_module.Mood.SENDING for one in site.server._open)
        )

        assert await (await connect()).get() == 200
        await until(site.streams[0].closed.is_set)

    run(scenario)


def test_a_long_answer_is_not_awaited_for_somebody_who_left():
    async def scenario(site, connect):
        client = await connect()
        client.send(POST)
        await until(lambda: site.asked)
        client.writer.close()

        await until(lambda: site.left)
        await until(lambda: not site.server._open)

    run(scenario)


def test_what_comes_during_a_long_answer_is_answered_after_it():
    async def scenario(site, connect):
        client = await connect()
        client.send(POST)
        await until(lambda: site.asked)
        client.send(GET % b"/next")
        site.go.set()

        assert (await client.head())[0] == 200
        await client.until(b"ok\n")
        assert (await client.head())[0] == 200
        assert [request.path for request in site.asked] == ["/wait", "/next"]

    run(scenario)


@pytest.mark.slow
def test_long_answers_that_nobody_reads_are_bounded(monkeypatch):
    async def scenario(site, connect):
        async def deaf(path):
            client = await connect()
            client.send(GET % path)
            client.writer.transport.pause_reading()

        for _ in range(9):
            await deaf(b"/shared")
        for _ in range(2):
            await deaf(b"/long")
        await until(lambda: len(site.server._held) == 11)
        assert await (await connect()).get(b"/long") == 503
        assert await (await connect()).get(b"/") == 200

        monkeypatch.setattr(server_module, "STALLED_S", 0.0)
        late = await connect()
        late.send(GET % b"/long")
        assert (await late.head())[0] == 200
        assert len(await late.reader.readexactly(site.long)) == site.long
        assert len(site.server._held) < 11

    run(scenario)


# -- streams --------------------------------------------------------------------------------------


def test_pieces_arrive_one_by_one_and_the_end_is_an_end():
    async def scenario(site, connect):
        client = await connect()
        status = await client.get(b"/stream")
        pieces = site.streams[0]
        pieces.queue.put_nowait(b"one\n")
        assert status == 200
        assert await client.until(b"one\n\r\n") == b"4\r\none\n\r\n"
        pieces.queue.put_nowait(b"two\n")
        assert await client.until(b"two\n\r\n") == b"4\r\ntwo\n\r\n"
        pieces.queue.put_nowait(None)

        assert await client.rest() == b"0\r\n\r\n"
        assert pieces.closed.is_set()
        assert site.server.streams == 0

    run(scenario)


def test_an_old_client_gets_the_pieces_as_they_are():
    async def scenario(site, connect):
        client = await connect()
        client.send(b"GET /stream HTTP/1.0\r\n\r\n")
        await client.head()
        site.streams[0].queue.put_nowait(b"one\n")
        site.streams[0].queue.put_nowait(None)

        assert await client.rest() == b"one\n"

    run(scenario)


def test_a_stream_is_not_begun_for_a_head():
    async def scenario(site, connect):
        client = await connect()
        client.send(b"HEAD /stream HTTP/1.1\r\nHost: x\r\n\r\n")

        assert (await client.head())[0] == 200
        assert await client.rest() == b""
        assert site.streams[0].closed.is_set()

    run(scenario)


@pytest.mark.parametrize("goodbye", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_who_leaves_or_talks_during_a_stream_ends_it(goodbye):
    async def scenario(site, connect):
        client = await connect()
        await client.get(b"/stream")
        if goodbye:
            client.send(goodbye)
        else:
            client.writer.close()

        await until(site.streams[0].closed.is_set)
        await until(lambda: not site.server._open)

    run(scenario)


def test_streams_leave_places_for_others():
    async def scenario(site, connect):
        clients = [await connect() for _ in range(STREAMS_MAX)]
        assert {await client.get(b"/stream") for client in clients} == {200}

        late = await connect()
        assert await late.get(b"/stream") == 503
        assert site.streams[-1].closed.is_set()
        others = [await connect() for _ in range(CONNECTIONS_MAX - STREAMS_MAX)]
        assert {await other.get(b"/healthz") for other in others} == {200}
        assert len(site.server._open) <= CONNECTIONS_MAX

        clients[0].writer.close()
        await until(site.streams[0].closed.is_set)
        assert await (await connect()).get(b"/stream") == 200

    run(scenario)


def test_a_stream_that_is_silent_beats(monkeypatch):
    monkeypatch.setattr(server_module, "HEARTBEAT_S", 0.01)

    async def scenario(site, connect):
        site.heartbeat = b": \n\n"
        client = await connect()
        await client.get(b"/stream")

        for _ in range(3):
            assert await client.until(b": \n\n\r\n") == b"4\r\n: \n\n\r\n"
        site.streams[0].queue.put_nowait(b"news")
        assert (await client.until(b"news\r\n")).endswith(b"4\r\nnews\r\n")

    run(scenario)


@pytest.mark.slow
def test_a_reader_that_takes_nothing_is_dropped(monkeypatch):
    monkeypatch.setattr(server_module, "PIECE_WITHIN_S", 0.2)

    async def scenario(site, connect):
        client = await connect()
        await client.get(b"/stream")
        client.writer.transport.pause_reading()
        site.streams[0].queue.put_nowait(b"x" * (64 << 20))

        await until(site.streams[0].closed.is_set)
        await until(lambda: not site.server._open)

    run(scenario)


def test_dead_peers_are_found_by_the_kernel():
    async def scenario(site, connect):
        client = await connect()
        await client.get(b"/stream")
        (connection,) = site.server._open
        theirs = connection._writer.get_extra_info("socket")

        assert theirs.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert theirs.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000

    run(scenario)


def test_a_stream_that_breaks_costs_its_client_alone():
    async def scenario(site, connect):
        asyncio.get_running_loop().set_exception_handler(
            lambda _loop, context: told.append(context)
        )
        client = await connect()
        await client.get(b"/stream")

        async def broken():
            raise ZeroDivisionError

        site.streams[0].__class__ = type("Broken", (Pieces,), {"__anext__": lambda _: broken()})
        site.streams[0].queue.put_nowait(b"x")
        await client.until(b"x\r\n")
        assert await client.rest() == b""
        assert isinstance(told[0]["exception"], ZeroDivisionError)
        assert await (await connect()).get() == 200

    told = []
    run(scenario)
