"""Write lines of the rings as replies to the method Logs: a message for each line."""

import base64
from collections.abc import Iterator
from json.encoder import encode_basestring

from supervisord_pidfd.clock import rfc3339
from supervisord_pidfd.logger.lines import Batch

LINE_BYTES = 16 << 10
"""Longer lines, which only raw output has, are split."""

_CONTINUES = 0xC0, 0x80
_CHARACTER_BYTES = 4


def lines_in(batch: Batch) -> int:
    """Count the lines of a batch; raw output may end in the middle of one."""
    return batch.data.count(b"\n") + (not batch.data.endswith(b"\n"))


def replies(batch: Batch, skip: int, missed: int) -> Iterator[bytes]:
    """Make a reply of each line but the first `skip`; `missed` bytes are told with the first."""
    head = (
        f'{{"parameters":{{"line":{{"ts":"{rfc3339(batch.wall)}",'
        f'"service":{encode_basestring(batch.service)},"stream":"{batch.stream}",'
        f'"run":{batch.run},"seq":'
    )
    for seq, (line, partial) in enumerate(_lines(batch), batch.seq):
        if seq - batch.seq < skip:
            continue
        tail = ',"partial":true' if partial else ',"partial":false'
        if missed:
            tail += f',"missed_bytes":{missed}'
            missed = 0
        yield f'{head}{seq},"msg":{_said(line)}{tail}}}}},"continues":true}}\0'.encode()


def _lines(batch: Batch) -> Iterator[tuple[bytes, bool]]:
    """Give each line, and whether it goes on in the next one. Nothing is copied but the line."""
    data, at = batch.data, 0
    while at < len(data):
        end = data.find(b"\n", at)
        is_last = end < 0 or end == len(data) - 1
        goes_on = is_last and (batch.partial or (end < 0 and not batch.torn))
        end = len(data) if end < 0 else end
        while end - at > LINE_BYTES:
            cut = _between_characters(data, at + LINE_BYTES)
            yield data[at:cut], True
            at = cut
        yield data[at:end], goes_on
        at = end + 1


def _between_characters(data: bytes, cut: int) -> int:
    mask, continues = _CONTINUES
    for at in range(cut, cut - _CHARACTER_BYTES, -1):
        if data[at] & mask != continues:
            return at
    return cut


def _said(line: bytes) -> str:
    """Write a line as a string; one that is no UTF-8 is repeated as it is, in base64."""
    try:
        return encode_basestring(line.decode("utf-8"))
    except UnicodeDecodeError:
        raw = base64.b64encode(line).decode("ascii")
        return f'{encode_basestring(line.decode("utf-8", "replace"))},"raw":"{raw}"'
