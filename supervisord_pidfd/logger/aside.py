"""Do what may hang in a thread of its own, one thing after the other; nobody waits for it."""

import threading
from collections import deque
from collections.abc import Callable

Act = Callable[[], object]


class Aside:
    """Own a queue and the thread that works it off, which is there from the first thing on.

    `most` is how many bytes may wait; when there were too many, none is taken until half of them
    are done. Where no thread is to be had, things are done at once.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[tuple[Act, int]] = deque()
        self._size = 0
        self._is_full = False
        self._news = threading.Condition()
        self._is_busy = False
        self._is_over = False
        self._thread: threading.Thread | None = None

    def ask(self, act: Act, size: int = 0) -> bool:
        """Have something done, which holds so many bytes; return False if too much waits."""
        with self._news:
            most = self._most // 2 if self._is_full else self._most
            self._is_full = self._size + size > most
            if self._is_full:
                return False
            if self._thread is not None or self._start():
                self._waiting.append((act, size))
                self._size += size
                self._news.notify_all()
                return True
        act()
        return True

    def wait(self, timeout: float) -> bool:
        """Wait until all is done; return whether it is."""
        with self._news:
            return self._news.wait_for(lambda: not (self._is_busy or self._waiting), timeout)

    def close(self, timeout: float) -> None:
        """End the thread when all is done; wait no longer than this."""
        with self._news:
            self._is_over = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(timeout)

    def _start(self) -> bool:
        thread = threading.Thread(target=self._run, name="aside", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False
        self._thread = thread
        return True

    def _run(self) -> None:
        while True:
            with self._news:
                self._is_busy = False
                self._news.notify_all()
                self._news.wait_for(lambda: self._waiting or self._is_over)
                if not self._waiting:
                    return
                act, size = self._waiting.popleft()
                self._is_busy = True
            act()
            with self._news:
                self._size -= size
