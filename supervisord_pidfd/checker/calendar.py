"""The next time of a cron expression of five fields, in a time zone of its own.

cronsim does the arithmetic and follows Debian's cron where clocks are changed. An expression that
names its minute and hour means times on the clock: one that does not exist that day comes right
after the gap, and one that exists twice the first time only. One with a star in its minute or hour
means a rhythm, which goes on in real time through both.
"""

import functools
import os
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError

FIELDS = 5
_LOCALTIME = "/etc/localtime"


class CalendarError(Exception):
    """Tell what is wrong with an expression or a zone."""


def next_time(expression: str, zone_name: str | None, after: float) -> float | None:
    """Return the first moment after `after` (Unix seconds) that matches, None if there is none.

    Raises:
        CalendarError: The expression or the zone makes no sense.
    """
    if len(expression.split()) != FIELDS:
        raise CalendarError(f"not a cron expression of five fields: {expression!r}")
    try:
        moments = CronSim(expression, datetime.fromtimestamp(after, zone(zone_name)))
        # Two times inside of one gap both come right after it; a time may lie before the second
        # pass of an hour that exists twice, where we are already. Both are over, so look on.
        return next(at for at in map(datetime.timestamp, moments) if at > after)
    except (CronSimError, OverflowError, ValueError, OSError) as error:
        raise CalendarError(f"cannot read {expression!r}: {error}") from error
    except StopIteration:
        return None


@functools.lru_cache(maxsize=64)
def zone(name: str | None) -> tzinfo:
    """Return a zone by its IANA name; without one, the zone of this machine.

    Raises:
        CalendarError: There is no such zone.
    """
    try:
        return ZoneInfo(name) if name is not None else _local()
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise CalendarError(f"no such time zone: {name!r}") from error


def _local() -> tzinfo:
    """Read the machine's zone as libc does: TZ, then /etc/localtime, then UTC."""
    name = os.environ.get("TZ", "").removeprefix(":")
    if name:
        if name.startswith("/"):
            with open(name, "rb") as file:
                return ZoneInfo.from_file(file)
        return ZoneInfo(name)
    try:
        with open(_LOCALTIME, "rb") as file:
            return ZoneInfo.from_file(file)
    except FileNotFoundError:
        return UTC
