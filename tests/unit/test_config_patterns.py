"""No pattern can keep the logger busy with a line: it is refused, or sees less of the line."""

import pytest

from supervisord_pidfd.config.patterns import reach


@pytest.mark.parametrize(
    "pattern",
    [
        "ready",
        "^ready$",
        "listening on .*:[0-9]+",
        "^.*started.*port.*$",
        r"(?i)server (started|is up) in \d+ ?ms",
        r"\b(\d{1,3}\.){3}\d{1,3}\b",
        "(?:abc){40}",
        "[a-z]{3,}",
    ],
)
def test_what_people_write_sees_a_thousand_bytes(pattern):
    assert reach(pattern) == 1000


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+$",
        "(a*)*b",
        "(a|aa)+$",
        "(.*,){20,}x",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
        r"(x+x+)+y",
        r"(a?){30,}b",
        "a?" * 40 + "a" * 40,
        "(.)(.)(.)" + r"\1\2\3" * 9,
        ".*" * 9,
    ],
)
def test_what_may_take_for_ever_is_refused(pattern):
    assert reach(pattern) is None


def test_the_more_may_repeat_the_less_is_looked_at():
    found = [reach(".*a" * count + "b") for count in range(1, 5)]

    assert found == [1000, 1000, 250, None]
