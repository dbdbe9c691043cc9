"""Ranking data as text: libsvm's format with query ids, as XGBoost and LightGBM read it.

    2 qid:1 1:0.74 6:0.87
    0 qid:1 6:0.12

A line holds a candidate: its label, its query, and features by number. A feature that
a line does not name is missing, as it is for XGBoost. The queries may also be in a file
beside it, `.query` (LightGBM's name) or `.group` (XGBoost's), which has the number of
candidates of each query, one a line; such queries are called by their lines' numbers.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranker.errors import InvalidRequestError
from ranker.forest.forest import MAX_FEATURES
from ranker.quality.data import RankingData

SIDECARS = (".query", ".group")

_EXACT = 2.0**53
"""Below it floating-point numbers of 64 bits tell all whole numbers apart."""

_PIECE = 1 << 24
"""Bytes that are read at once."""

_NOT_PLAIN = (b"#", b"\r", b"\n\n", b"\n ", b"\n\t")
"""Where a comment, a blank line, or a line that begins with one of these is."""

_SOME_WITHOUT_QUERY = "some lines have a query id (qid:), some have none"

_EXPECTED = "expected a label and then features as in `2 qid:1 1:0.74 6:0.87`"


def read_libsvm(path: Path, first_index: int = 0, num_features: int = MAX_FEATURES) -> RankingData:
    """Reads a file.

    Args:
        path: the file; `.query` or `.group` is appended for the one beside it.
        first_index: the number of the first feature: 0 as XGBoost has it, or 1.
        num_features: how many features there are at most.

    Raises:
        InvalidRequestError: it is not such a file; names the line.
        OSError: it can't be read.
    """
    pieces = []
    lines = 0
    for text in _pieces(path):
        plain, numbers = _plain(text, lines + 1)
        lines += text.count(b"\n")
        if plain:  # not only comments
            pieces.append(_Piece(path.name, plain, numbers, first_index, num_features))
    if not pieces:
        raise InvalidRequestError(path.name, "holds no candidates")
    labels = np.concatenate([piece.labels for piece in pieces])
    width = max(piece.width for piece in pieces)
    features = np.full((len(labels), width), np.nan, np.float32)
    begin = 0
    for piece in pieces:
        features[begin + piece.row, piece.column] = piece.value
        begin += len(piece.labels)
    ids = [piece.queries for piece in pieces if piece.queries is not None]
    if len(ids) not in (0, len(pieces)):
        raise InvalidRequestError(path.name, _SOME_WITHOUT_QUERY)
    if ids:
        ids_of_all = np.concatenate(ids)
        return RankingData.from_arrays(features, labels, ids_of_all, source=str(path), sparse=True)
    sizes = _sizes_beside(path)
    if sizes.sum() != len(labels):
        raise InvalidRequestError(
            path.name, f"{len(labels)} candidates, {sizes.sum()} by the file of query sizes"
        )
    queries = np.flatnonzero(sizes > 0)
    return RankingData(features, labels, sizes[queries], queries + 1, source=str(path), sparse=True)


def _pieces(path: Path) -> Iterator[bytes]:
    """The file in pieces of whole lines, each with its end."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            end = piece.rfind(b"\n") + 1
            if end:
                yield rest + piece[:end]
                rest = piece[end:]
            else:
                rest += piece
    if rest:
        yield rest + b"\n"


class _Piece:
    """Some lines of a file, as numbers.

    Args:
        name: of the file.
        text: the lines, each with a candidate.
        lines: each line's number in the file.
        first_index: the number of the first feature.
        num_features: how many features there are at most.

    Attributes:
        labels: float32 [n].
        queries: int64 [n]; None if the lines have no query ids.
        row: int64; of each value that is given.
        column: int64, likewise.
        value: float32, likewise.
        width: one more than the largest column.
    """

    def __init__(
        self, name: str, text: bytes, lines: Sequence[int], first_index: int, num_features: int
    ) -> None:
        self._name, self._lines = name, lines
        bytes_ = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(bytes_ == ord("\n"))
        colons = np.flatnonzero(bytes_ == ord(":"))
        pairs = np.bincount(np.searchsorted(ends, colons), minlength=len(ends))
        with_qid = text.count(b"qid:")
        if with_qid not in (0, len(ends)):
            raise InvalidRequestError(name, _SOME_WITHOUT_QUERY)
        self._check_lines(bytes_, ends, colons, bool(with_qid))
        numbers = self._numbers(text, len(ends) + 2 * int(pairs.sum()) - with_qid, ends)
        begins = np.cumsum(1 + 2 * pairs - bool(with_qid)) - (1 + 2 * pairs - bool(with_qid))
        self.labels = numbers[begins].astype(np.float32)
        self.queries = None
        is_pair = np.ones(len(numbers), np.bool_)
        is_pair[begins] = False
        if with_qid:
            queries = numbers[begins + 1]
            is_pair[begins + 1] = False
            if (np.abs(queries) < _EXACT).all():
                self.queries = queries.astype(np.int64)
                self._refuse(self.queries != queries, "the query id is no whole number")
            else:
                self.queries = self._long_ids(text)
        given = numbers[is_pair].reshape(-1, 2)
        self.row = np.repeat(np.arange(len(ends)), pairs - bool(with_qid))
        self.column = given[:, 0].astype(np.int64) - first_index
        with np.errstate(over="ignore"):  # it is refused below
            self.value = given[:, 1].astype(np.float32)
        odd = np.bincount(
            self.row,
            (self.column != given[:, 0] - first_index)
            | (self.column < 0)
            | (self.column >= num_features),
            minlength=len(ends),
        )
        numbers_from, numbers_to = first_index, first_index + num_features - 1
        self._refuse(
            odd > 0,
            f"a feature's number is not a whole one from {numbers_from} to {numbers_to}"
            + ("; is 1 the first (--first-index 1)?" if first_index == 0 else ""),
        )
        self._refuse(self._lines_with_a_feature_twice(len(ends)), "a feature is named twice")
        self._refuse(
            self._lines_beyond_float32(text, given[:, 1], len(ends)),
            f"a value is beyond float32's ±{np.finfo(np.float32).max:.4g}",
        )
        self.width = int(self.column.max(initial=-1)) + 1

    def _check_lines(
        self,
        text: NDArray[np.uint8],
        ends: NDArray[np.intp],
        colons: NDArray[np.intp],
        with_qid: bool,
    ) -> None:
        """Refuses a line that is not a label, the query id if there are such, and pairs."""
        is_space = text <= ord(" ")
        begins = np.flatnonzero(~is_space & np.append(True, is_space[:-1]))
        line = np.searchsorted(ends, begins)
        self._refuse(np.bincount(line, minlength=len(ends)) == 0, _EXPECTED)
        is_label = np.append(True, line[1:] != line[:-1])
        in_word = np.bincount(
            np.searchsorted(begins, colons, side="right") - 1, minlength=len(line)
        )
        at_edge = is_space[colons - 1] | is_space[colons + 1]
        bad = np.bincount(line, in_word != ~is_label, len(ends)) > 0
        bad[np.searchsorted(ends, colons[at_edge])] = True
        if with_qid:
            second = np.minimum(np.flatnonzero(is_label) + 1, len(line) - 1)
            found = np.stack(
                [text[np.minimum(begins[second] + i, len(text) - 1)] for i in range(4)]
            )
            is_qid = (found == np.frombuffer(b"qid:", np.uint8)[:, None]).all(axis=0)
            bad |= ~(is_qid & (line[second] == np.arange(len(ends))))
        self._refuse(bad, _EXPECTED)

    def _lines_with_a_feature_twice(self, lines: int) -> NDArray[np.bool_]:
        twice = np.zeros(lines, np.bool_)
        is_next = self.row[1:] == self.row[:-1]
        if (is_next & (self.column[1:] <= self.column[:-1])).any():
            order = np.lexsort((self.column, self.row))
            row, column = self.row[order], self.column[order]
            twice[row[1:][(row[1:] == row[:-1]) & (column[1:] == column[:-1])]] = True
        return twice

    def _lines_beyond_float32(
        self, text: bytes, given: NDArray[np.float64], lines: int
    ) -> NDArray[np.bool_]:
        """Where a value became infinite that is not written so."""
        infinite = np.bincount(self.row[np.isinf(self.value)], minlength=lines)
        beyond = np.bincount(self.row[np.isinf(self.value) & ~np.isinf(given)], minlength=lines) > 0
        if infinite.any():
            texts = text.split(b"\n")
            for line in np.flatnonzero(infinite):
                _, _, values = texts[line].partition(b":")
                beyond[line] |= values.lower().count(b"inf") < infinite[line]
        return beyond

    def _long_ids(self, text: bytes) -> NDArray[np.int64]:
        """The query ids, which are too long to be read as floating-point numbers."""
        ids = re.findall(rb"qid:(\S+)", text)
        whole = np.array([re.fullmatch(rb"[+-]?\d{1,19}", each) is not None for each in ids])
        self._refuse(~whole, "the query id is no whole number of 64 bits")
        numbers = [int(each) for each in ids]
        fits = np.array([-(2**63) <= each < 2**63 for each in numbers])
        self._refuse(~fits, "the query id is no whole number of 64 bits")
        return np.array(numbers, np.int64)

    def _numbers(self, text: bytes, expected: int, ends: NDArray[np.intp]) -> NDArray[np.float64]:
        """All numbers of the text, without colons and `qid`."""
        spaced = text.replace(b"qid:", b" ").replace(b":", b" ")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", DeprecationWarning)  # NumPy before 2.4
                numbers = np.fromstring(spaced, np.float64, sep=" ")
        except (ValueError, DeprecationWarning):
            numbers = np.empty(0)
        if len(numbers) != expected:
            self._name_line(text, ends)
        return numbers

    def _name_line(self, text: bytes, ends: NDArray[np.intp]) -> None:
        """Finds the line that is not as it should be."""
        for number, line in zip(self._lines, text.split(b"\n")[: len(ends)], strict=True):
            try:
                label, *pairs = line.split()
                float(label)
                for pair in pairs:
                    key, value = pair.split(b":")
                    float(0 if key == b"qid" else key)
                    float(value)
            except ValueError as error:
                raise InvalidRequestError(f"{self._name}, line {number}", _EXPECTED) from error
        raise InvalidRequestError(self._name, "not in libsvm's format")

    def _refuse(self, bad: NDArray[np.bool_], problem: str) -> None:
        if bad.any():
            line = self._lines[int(bad.argmax())]
            raise InvalidRequestError(f"{self._name}, line {line}", problem)


def _plain(text: bytes, first: int) -> tuple[bytes, Sequence[int]]:
    """The text without comments and blank lines, and the numbers that its lines had before.

    Args:
        text: whole lines.
        first: the first line's number.
    """
    if not any(mark in text for mark in _NOT_PLAIN) and not text[:1].isspace():
        return text, range(first, first + text.count(b"\n"))
    lines = [line.partition(b"#")[0].strip() for line in text.split(b"\n")]
    numbers = [number for number, line in enumerate(lines, first) if line]
    return b"".join(line + b"\n" for line in lines if line), numbers


def _sizes_beside(path: Path) -> NDArray[np.int64]:
    for suffix in SIDECARS:
        beside = path.with_name(path.name + suffix)
        if beside.exists():
            try:
                sizes = np.array(beside.read_text().split(), np.int64)
            except ValueError as error:
                raise InvalidRequestError(
                    beside.name, "expected the number of each query's candidates, one a line"
                ) from error
            if (sizes < 0).any():
                raise InvalidRequestError(beside.name, "a query of less than 0 candidates")
            return sizes
    raise InvalidRequestError(
        path.name,
        f"no query ids (qid:) in it, and no file {path.name}{SIDECARS[0]} or {SIDECARS[1]} "
        "of query sizes beside it",
    )
