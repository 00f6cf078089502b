"""What the core acts with: the loop, the reaper, the list of orphans and the host."""

from typing import NamedTuple

from supervisord_pidfd.loop import Loop
from supervisord_pidfd.orphans import Orphans
from supervisord_pidfd.process import Host
from supervisord_pidfd.reaper import Reaper


class Hands(NamedTuple):
    """Hold what a service acts with."""

    loop: Loop
    reaper: Reaper
    orphans: Orphans
    host: Host
