"""Follow what services write, and between the lines what happens to them."""

import select
from collections.abc import Iterator, Mapping
from typing import Any

from supervisord_pidfd.cli.session import Session
from supervisord_pidfd.client import Client, Reply
from supervisord_pidfd.errors import NoAnswerError, ReplyError

Record = Mapping[str, Any]


def follow(session: Session, parameters: Mapping[str, object]) -> Iterator[Reply]:
    """Give lines (`line`) and events (`event`) as they come, until there will be no more lines."""
    events: Client | None = None
    try:
        events = _begun(session.another(), parameters["names"])
        logs = session.client
        logs.begin("Logs", parameters)
        while True:
            _wait(logs, events)
            while events is not None and events.has_reply:
                event, events = _next_event(events)
                if event is not None:
                    yield {"event": event}
            if logs.has_reply:
                reply, continues = logs.take()
                yield reply
                if not continues:
                    return
    finally:
        if events is not None:
            events.close()


def _begun(events: Client, names: object) -> Client:
    events.begin("Events", {"names": names, "last": 0, "follow": True})
    return events


def _wait(*clients: Client | None) -> None:
    """Wait until one has something to take; what has come already is not waited for."""
    there = [client for client in clients if client is not None]
    if not any(client.has_reply for client in there):
        poll = select.poll()
        for client in there:
            poll.register(client.fileno(), select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        for client in there:
            if client.fileno() in ready:
                client.read()


def _next_event(events: Client) -> tuple[Record | None, Client | None]:
    """Take an event, if it is one of a service and no detail; without answers hang up."""
    try:
        reply, _ = events.take()
    except (NoAnswerError, ReplyError):  # whoever may read lines goes on with lines
        events.close()
        return None, None
    event = reply.get("event")
    if not isinstance(event, dict):
        return None, events
    named = str(event.get("event", ""))
    own = str(event.get("service", "")).startswith(":")
    wanted = named.startswith("service.") and event.get("level") != "debug" and not own
    return (event if wanted or named == "gap" else None), events
