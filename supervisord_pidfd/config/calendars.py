"""Cron expressions and time zones; imported only where a file has one."""

import re
import zoneinfo
from datetime import UTC, datetime

from cronsim import CronSim, CronSimError

__all__ = ["check_expression", "is_zone"]

_ANY_DAY = datetime(2024, 1, 1, tzinfo=UTC)


def check_expression(text: str) -> None:
    """Check a cron expression of five fields.

    Raises:
        ValueError: It cannot be read, or no day is ever like that (`30 2 30 2 *`).
    """
    if not re.fullmatch("[0-9A-Za-z*,/# -]{1,200}", text):
        raise ValueError("bad character, or too long")
    try:
        next(CronSim(text, _ANY_DAY))
    except (CronSimError, StopIteration) as error:
        raise ValueError(str(error).lower() or "no such day ever comes") from None


def is_zone(name: str) -> bool:
    """Tell whether there is such a time zone: in the system's data, or in the tzdata package."""
    try:
        zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        return False
    return True
