"""What the core acts with: the loop, the reaper, the list of orphans and the host."""

from typing import NamedTuple

from supervisord_pidfd.loop import Loop
from supervisord_pidfd.orphans import Orphans
from supervisord_pidfd.process import Host
from supervisord_pidfd.reaper import Reaper
from supervisord_pidfd.taps import Taps


class Hands(NamedTuple):
    """Hold what a service acts with; without taps nobody captures what services write."""

    loop: Loop
    reaper: Reaper
    orphans: Orphans
    host: Host
    taps: Taps | None = None
