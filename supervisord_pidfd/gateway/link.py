"""The gateway's end of the channel to the core: records in, one question, notices out."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

from supervisord_pidfd.channel import Channel
from supervisord_pidfd.core.spec import GatewaySpec, load
from supervisord_pidfd.gateway.replica import Replica

ANSWER_WITHIN_S = 1.0


class Link:
    """Speak with the core; owns the channel. At most one question is under way.

    Attributes:
        answered: Requests answered since the core was last asked, by handler and code. The core
            adds them up, so that a new gateway does not begin at zero.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._asked = 0
        self.answered: Counter[tuple[str, int]] = Counter()
        self._answer: asyncio.Future[Mapping[str, Any]] | None = None
        self._synced = asyncio.Event()

    @classmethod
    async def open(cls, fd: int) -> "Link":
        """Take ownership of the inherited descriptor, one end of a socket pair."""
        return cls(await Channel.open(fd))

    async def settings(self) -> GatewaySpec:
        """Read our settings.

        Raises:
            StartupError: The core is of another version.
            EOFError: The core has closed its end.
        """
        return load(GatewaySpec, await self._channel.settings())

    async def follow(self, replica: Replica) -> None:
        """Keep the replica up to date until the core closes its end."""
        try:
            while True:
                self._take(await self._channel.next(), replica)
        except EOFError:
            return

    def _take(self, message: Mapping[str, Any], replica: Replica) -> None:
        if "reply" not in message:
            replica.apply(message)
            if replica.synced:
                self._synced.set()
        elif message["reply"] == self._asked and self._answer and not self._answer.done():
            self._answer.set_result(message["counters"])

    async def counters(self, within: float = ANSWER_WITHIN_S) -> Mapping[str, Any] | None:
        """Ask the core for its counters; None if it does not answer in time.

        A question that it has not answered yet is not asked again: a core that hangs finds one
        question when it comes back, however many scrapes there were.
        """
        if self._answer is None or self._answer.done():
            self._asked += 1
            self._answer = asyncio.get_running_loop().create_future()
            http = [[*kind, number] for kind, number in self.answered.items()]
            self.answered.clear()
            self._channel.send({"call": "Counters", "id": self._asked, "http": http})
        try:
            async with asyncio.timeout(within):
                await self._synced.wait()
                return await asyncio.shield(self._answer)
        except TimeoutError:
            return None

    def notice(self, kind: str, **fields: str) -> None:
        """Tell the core what happened here; it publishes the event."""
        self._channel.send({"notice": {"type": kind, **fields}})

    def close(self) -> None:
        """Close our end."""
        self._channel.close()
