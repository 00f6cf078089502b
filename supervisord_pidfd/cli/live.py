"""Draw the same thing again and again, until `q` or Ctrl-C; plain ANSI, no curses."""

import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from supervisord_pidfd.cli.screen import Screen
from supervisord_pidfd.cli.session import DONE, INTERRUPTED

# The other page, no cursor, and lines that are cut at the edge.
_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l\x1b[?7l", "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME, _END_OF_LINE, _BELOW = "\x1b[H", "\x1b[K", "\x1b[J"

Draw = Callable[[], list[str]]
Key = Callable[[str], bool]


def live(screen: Screen, draw: Draw, every_s: float, key: Key | None = None) -> int:
    """Show what `draw` returns every so many seconds; in a pipe one block after the other.

    `key` is told each key but `q`; it returns whether to draw at once.
    """
    try:
        with _keyboard(screen) as keyboard:
            first = True
            while True:
                lines = draw()
                if screen.terminal and not screen.as_json:
                    _paint(screen, lines)
                else:
                    screen.lines(lines if first else ["", *lines] if lines else [])
                first = False
                if _asked_to_end(keyboard, every_s, key):
                    return DONE
    except KeyboardInterrupt:
        return INTERRUPTED


def _paint(screen: Screen, lines: list[str]) -> None:
    """Draw over what was there, which does not flicker as clearing would."""
    rows = screen.size()[1]
    shown = lines if len(lines) < rows else [*lines[: rows - 2], f"… {len(lines) - rows + 2} more"]
    screen.write(_HOME + "".join(f"{line}{_END_OF_LINE}\r\n" for line in shown) + _BELOW)


def _asked_to_end(keyboard: int | None, every_s: float, key: Key | None) -> bool:
    """Wait for the next turn, or for a key; tell whether it was the end."""
    poll = select.poll()
    if keyboard is not None:
        poll.register(keyboard, select.POLLIN)
    if not poll.poll(every_s * 1000) or keyboard is None:
        return False
    pressed = os.read(keyboard, 64).decode("ascii", "replace")
    if not pressed or "q" in pressed or "\x03" in pressed:
        return True
    if key is not None:
        for char in pressed:
            key(char)
    return False


@contextmanager
def _keyboard(screen: Screen) -> Iterator[int | None]:
    """Take keys one by one and use the other page of the terminal; put both back.

    They are put back for Ctrl-Z too, and taken again when the shell brings us back.
    """
    if not screen.terminal or screen.as_json:
        yield None
        return
    stdin = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    before = termios.tcgetattr(stdin) if stdin is not None else None

    def enter() -> None:
        screen.control(_ENTER)
        if stdin is not None:
            tty.setcbreak(stdin)

    def leave() -> None:
        screen.control(_LEAVE)
        if stdin is not None and before is not None:
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)

    def rest(_signum: int, _frame: object) -> None:
        leave()
        signal.raise_signal(signal.SIGSTOP)
        enter()

    old = signal.signal(signal.SIGTSTP, rest)
    enter()
    try:
        yield stdin
    finally:
        leave()
        signal.signal(signal.SIGTSTP, old)
