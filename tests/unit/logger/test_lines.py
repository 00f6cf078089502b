"""What becomes of bytes on their way to being lines: nothing is lost, added or torn."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisord_pidfd.logger.lines import (
    Framer,
    Piece,
    count_lines,
    first_lines,
    raw_of,
)

reads = st.lists(st.binary(max_size=200) | st.sampled_from([b"\n", b"a\nb", b"\xe2\x82\xac" * 9]))


def fed(framer, *reads):
    return [piece for data in reads for piece in framer.feed(data)]


def test_whole_lines_pass_as_the_object_that_was_read():
    data = b"one\ntwo\n"

    (piece,) = Framer(100).feed(data)
    assert piece.data is data
    assert piece == Piece(data, 2)


def test_the_beginning_of_a_line_waits_for_its_end():
    framer = Framer(100)

    assert framer.feed(b"one\ntw") == [Piece(b"one\n", 1)]
    assert framer.kept == 2
    assert framer.feed(b"o\n") == [Piece(b"two\n", 1)]


def test_a_line_of_just_the_limit_is_whole():
    assert fed(Framer(5), b"12345\n12345", b"\n") == [Piece(b"12345\n", 1), Piece(b"12345\n", 1)]


def test_a_longer_line_is_split_and_its_neighbours_are_not():
    pieces = fed(Framer(5), b"a\n1234567890123\nb\n")

    assert pieces == [
        Piece(b"a\n", 1),
        Piece(b"12345\n", 1, partial=True),
        Piece(b"67890\n", 1, partial=True),
        Piece(b"123\nb\n", 2),
    ]


def test_a_split_leaves_characters_whole():
    pieces = fed(Framer(8), "aé€é€é€\n".encode())

    for piece in pieces:
        piece.data.decode()
    assert len(pieces) > 1


def test_a_split_of_what_is_no_text_is_where_it_must_be():
    (piece, *_) = fed(Framer(8), b"\x80" * 20)

    assert piece == Piece(b"\x80" * 8 + b"\n", 1, partial=True)


def test_the_end_of_the_stream_gives_away_what_is_left():
    framer = Framer(100)
    framer.feed(b"last words")

    assert framer.finish() == [Piece(b"last words\n", 1, torn=True)]
    assert framer.finish() == []


def test_a_line_that_waits_for_too_long_goes_on_later():
    framer = Framer(100)
    framer.feed(b"password: ")

    assert framer.flush() == [Piece(b"password: \n", 1, partial=True)]
    assert framer.feed(b"x\n") == [Piece(b"x\n", 1)]


@given(reads, st.integers(4, 50))
def test_the_raw_bytes_of_all_pieces_are_those_of_all_reads(reads, limit):
    framer = Framer(limit)
    pieces = fed(framer, *reads) + framer.finish()

    assert b"".join(map(raw_of, pieces)) == b"".join(reads)


@given(reads, st.integers(4, 50))
def test_every_line_is_within_the_limit_and_counted(reads, limit):
    framer = Framer(limit)
    for data in reads:
        for piece in framer.feed(data):
            lines = piece.data.split(b"\n")
            assert lines.pop() == b""
            assert len(lines) == piece.lines
            assert max(map(len, lines)) <= limit
        assert framer.kept <= limit


@given(reads, st.integers(4, 50))
def test_what_is_not_marked_as_partial_ends_where_the_service_ended_it(reads, limit):
    framer = Framer(limit)
    written = b""
    for piece in fed(framer, *reads):
        written += raw_of(piece)
        assert piece.partial is not written.endswith(b"\n")


@pytest.mark.parametrize("data", [b"", b"\n" * 5000, b"x" * 5000, (b"x" * 99 + b"\n") * 50])
def test_lines_are_counted_whether_long_or_short(data):
    assert count_lines(data) == data.count(b"\n")


@given(st.binary())
def test_counting_is_exact(data):
    assert count_lines(data) == data.count(b"\n")


@pytest.mark.parametrize(
    ("count", "head", "rest"),
    [
        (0, None, Piece(b"a\nb\nc\n", 3, partial=True)),
        (1, Piece(b"a\n", 1), Piece(b"b\nc\n", 2, partial=True)),
        (2, Piece(b"a\nb\n", 2), Piece(b"c\n", 1, partial=True)),
        (3, Piece(b"a\nb\nc\n", 3, partial=True), None),
        (9, Piece(b"a\nb\nc\n", 3, partial=True), None),
    ],
)
def test_a_piece_is_divided_after_so_many_lines(count, head, rest):
    assert first_lines(Piece(b"a\nb\nc\n", 3, partial=True), count) == (head, rest)
