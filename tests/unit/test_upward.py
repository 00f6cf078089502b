"""What systemd is told, in words."""

import math

import pytest

from supervisord_pidfd.upward import status_of, watchdog_interval


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ({}, "0 services"),
        ({"running": 1, "failed": 0}, "1 service: 1 running"),
        ({"running": 2, "backoff": 1, "failed": 0}, "3 services: 2 running, 1 backoff"),
    ],
)
def test_services_are_counted_by_phase(counts, text):
    assert status_of(counts) == text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, math.inf),
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "8"}, math.inf),
        ({"WATCHDOG_USEC": "0"}, math.inf),
        ({"WATCHDOG_USEC": "-5"}, math.inf),
        ({"WATCHDOG_USEC": "soon"}, math.inf),
    ],
)
def test_the_watchdog_is_fed_at_half_its_interval_if_it_is_ours(environ, seconds):
    assert watchdog_interval(environ, 7) == seconds
