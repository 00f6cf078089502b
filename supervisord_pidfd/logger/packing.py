"""Compress old log files, in a thread of its own that is there while there is something to do.

A file is packed under another name, on disk completely before it gets its own, and only then is
the plain one removed. Meanwhile it may have moved up: what it is called by then is found by its
inode number. A crash leaves a file of the other name, which is removed by the next packing, or
both files, which `rotation.settle` takes for what they are. What fails is tried again when the log
is next rotated.
"""

import collections
import os
import threading
import zlib

from supervisord_pidfd.logger import places
from supervisord_pidfd.logger.files import FileSink
from supervisord_pidfd.logger.rotation import PACKED, Old, olds, settle

CHUNK_BYTES = 256 << 10
NICE = 10
_GZIP = 31  # zlib's word for a gzip header around 32 KiB windows


class Packer:
    """Pack the old files of sinks, one after the other. One packer for each file system."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: collections.deque[FileSink] = collections.deque()
        self._running: threading.Thread | None = None

    def ask(self, sink: FileSink) -> None:
        """Pack what there is of a sink, soon."""
        with self._lock:
            if sink not in self._asked:
                self._asked.append(sink)
            if self._running is not None:
                return
            thread = threading.Thread(target=self._run, name="packer", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                return  # no thread to be had: the next rotation asks again
            self._running = thread

    def join(self, timeout: float) -> bool:
        """Wait until there is nothing more to do; return whether that is so."""
        thread = self._running
        if thread is not None:
            thread.join(timeout)
        return thread is None or not thread.is_alive()

    def _run(self) -> None:
        # On Linux this is the priority of a thread: services and writers come first.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICE)
        while True:
            with self._lock:
                if not self._asked:
                    self._running = None
                    return
                sink = self._asked.popleft()
            try:
                pack(sink)
            except OSError:
                continue  # the plain files are all there


def pack(sink: FileSink) -> None:
    """Pack the old files of a sink, the oldest first.

    Raises:
        OSError: One cannot be read, or there is no room.
    """
    with sink.directory() as directory:
        while (source := _oldest(sink, directory)) is not None:
            try:
                _pack_one(sink, directory, source)
            finally:
                os.close(source)


def _oldest(sink: FileSink, directory: int) -> int | None:
    with sink.lock:
        plain = [old for old in settle(directory, sink.base) if not old.suffix]
        return places.open_to_read(directory, plain[-1].name(sink.base)) if plain else None


def _pack_one(sink: FileSink, directory: int, source: int) -> None:
    hidden = f".{sink.base}{PACKED}.tmp"
    _forget(directory, hidden)
    target = places.create(directory, hidden)
    if target is None:
        raise FileExistsError(hidden)
    try:
        found = os.fstat(source)
        _compress(source, target)
        os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
        os.fdatasync(target)
        with sink.lock:
            old = _find(directory, sink.base, found.st_ino)
            if old is not None:
                named = Old(old.number, PACKED).name(sink.base)
                os.rename(hidden, named, src_dir_fd=directory, dst_dir_fd=directory)
                os.unlink(old.name(sink.base), dir_fd=directory)
    finally:
        os.close(target)
        _forget(directory, hidden)


def _compress(source: int, target: int) -> None:
    packer = zlib.compressobj(wbits=_GZIP)
    while chunk := os.read(source, CHUNK_BYTES):
        _write(target, packer.compress(chunk))
    _write(target, packer.flush())


def _write(target: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(target, rest) :]


def _find(directory: int, base: str, inode: int) -> Old | None:
    """Say what a plain old file is called by now; None if it is gone."""
    for old in olds(os.listdir(directory), base):
        name = old.name(base)
        if (
            not old.suffix
            and os.stat(name, dir_fd=directory, follow_symlinks=False).st_ino == inode
        ):
            return old
    return None


def _forget(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return  # it has its own name now, or was never there
