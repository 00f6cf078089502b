"""Words that only a shell would understand."""

import pytest

from supervisord_pidfd.config.fields import check_command
from supervisord_pidfd.config.slips import shell_word


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("a | b", "|"),
        ("a && b", "&&"),
        ("a || b", "||"),
        ("a > b", ">"),
        ("a 2>/dev/null", "2>"),
        ("a >>b", ">>"),
        ("a < b", "<"),
        ("a $(b)", "$("),
        ("a `b`", "`"),
        ("a; b", ";"),
        ("a ; b", ";"),
        ("a &", "&"),
        ("a '|' \"&&\" b", None),
        ("sh -c 'a | b > c; d'", None),
        ("curl http://127.0.0.1/?a=1&b=2", None),
        ("a --x=<y>", None),
        ("a ${X} $Y", None),
        ("a ';'", None),
        ("a 'b';", ";"),
        ("a \\; b", None),
        ("a \\' | b", "|"),
        ('a "x\\" | y" b', None),
        (["a", "|", "b"], None),
        ("a b", None),
    ],
)
def test_shell_words(command, word):
    assert shell_word(check_command(command)) == word
