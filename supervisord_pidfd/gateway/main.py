"""Run the gateway: settings, listeners, no privileges, then serve until the core is gone.

The sockets are bound with the daemon's privileges, and the first byte of a client is read without
them. An idle gateway has no timer, so it never wakes.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from typing import Any

from supervisord_pidfd import privileges
from supervisord_pidfd.clock import Clock, SystemClock
from supervisord_pidfd.core.spec import WebSpec
from supervisord_pidfd.errors import StartupError
from supervisord_pidfd.gateway.access import Policy
from supervisord_pidfd.gateway.api import Api
from supervisord_pidfd.gateway.core import CoreClient, held
from supervisord_pidfd.gateway.link import Link
from supervisord_pidfd.gateway.listeners import Listeners, addresses_of
from supervisord_pidfd.gateway.pages import Pages, load
from supervisord_pidfd.gateway.replica import Replica
from supervisord_pidfd.gateway.resources import Resources
from supervisord_pidfd.gateway.router import Route, Router
from supervisord_pidfd.gateway.routes import Site
from supervisord_pidfd.gateway.server import Server
from supervisord_pidfd.gateway.watch import Hub
from supervisord_pidfd.logwire import Counters

_STDERR = 2


async def run(fd: int, counters: Counters | None = None) -> None:
    """Serve until the core closes its end of the channel, or SIGTERM.

    Raises:
        StartupError: The gateway cannot run like this.
    """
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_swallow)
    logging.getLogger("asyncio").disabled = True
    link = await Link.open(fd)
    try:
        settings = await link.settings()
    except EOFError:
        return
    settings = settings._replace(socket=held(settings.socket))
    replica, clock = Replica(settings.metrics), SystemClock()
    site = Site(link, replica, settings.metrics, clock, counters)
    core, policy = CoreClient(settings.socket), _policy(settings.web)
    web = _web_routes(core, policy, replica, clock) if settings.web.listen else []
    rpc = _rpc_routes(core, settings.web, policy, clock)
    router = Router(policy, [*site.routes(), *Api(core).routes(), *web, *rpc])
    server = Server(router.answer, link.answered)
    listeners = Listeners(addresses_of(settings), server.at, link.notice)
    listeners.bind_all()
    privileges.drop(_user(settings.web))
    following = asyncio.create_task(link.follow(replica))
    loop.add_signal_handler(signal.SIGTERM, following.cancel)
    serving = asyncio.create_task(listeners.serve())
    try:
        with contextlib.suppress(asyncio.CancelledError):
            await following
    finally:
        serving.cancel()
        listeners.close()
        link.close()


def _web_routes(core: CoreClient, policy: Policy, replica: Replica, clock: Clock) -> list[Route]:
    """Return the rows of the dashboard."""
    hub = Hub(core, clock, policy, replica)
    resources = Resources(replica, clock, os.getppid)
    return [*hub.routes(), *resources.routes(), *Pages(load()).routes()]


def _rpc_routes(core: CoreClient, web: WebSpec, policy: Policy, clock: Clock) -> list[Route]:
    """Return the row of XML-RPC; none, and nothing of it in memory, where it is off."""
    if not web.rpc_listen:
        return []
    from supervisord_pidfd.gateway.namespace import Namespace  # noqa: PLC0415 - few have it
    from supervisord_pidfd.gateway.rpc import Rpc  # noqa: PLC0415

    return Rpc(Namespace(core, clock), web.rpc, policy).routes()


def _policy(web: WebSpec) -> Policy:
    """Say who may ask for what."""
    guarded = web.token_file is not None
    return Policy(guarded, web.tokens, frozenset(map(str.lower, web.allowed_hosts)), web.control)


def _user(web: WebSpec) -> str | None:
    """Name whom we run as: whoever was found when the file was read, to whom the socket is."""
    return web.user if web.identity is None else str(web.identity.uid)


def _swallow(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line what asyncio would say in twenty; the loop goes on."""
    _complain(f"gateway: {context.get('message')}: {context.get('exception')!r}")


def _complain(text: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens there; the exit code says it too
        os.write(_STDERR, text.encode("utf-8", "backslashreplace") + b"\n")


def main(argv: list[str] | None = None) -> int:
    """Run the gateway; return its exit code."""
    for signum in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(signum, signal.SIG_IGN)
    parser = argparse.ArgumentParser(prog="supervisord_pidfd.gateway")
    parser.add_argument("--fd", type=int, required=True, help="the channel to the core")
    parser.add_argument("--counters", type=int, help="the memory of what the logger counts")
    options = parser.parse_args(sys.argv[1:] if argv is None else argv)
    memory = options.counters
    counters = None if memory is None else Counters(memory, may_write=False)
    try:
        asyncio.run(run(options.fd, counters))
    except StartupError as error:
        _complain(str(error))
        return 1
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, asyncio.LimitOverrunError) as e:
        _complain(f"gateway: cannot read the channel: {e!r}")
        return 1
    return 0
