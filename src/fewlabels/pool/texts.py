"""Columns of text as arrow arrays: a million rows without a million Python strings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

TEXT = pa.large_string()  # string counts bytes with 32 bits: 2 GB are 40 million paths
BLOCK = 65_536  # rows that are Python strings at a time


class Texts(Sequence[str]):
    """A column of text [N], which makes a Python string of a row when asked for it."""

    def __init__(self, column: Any) -> None:
        """`column`: an arrow array of strings without nulls."""
        self.column = column

    def __len__(self) -> int:
        return len(self.column)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> Texts: ...
    def __getitem__(self, row: int | slice) -> str | Texts:
        if isinstance(row, slice):
            return Texts(self.column[row])
        text: str = self.column[row].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self.column[start : start + BLOCK].to_pylist()


def as_texts(texts: Sequence[str]) -> Any:
    """An arrow column [N] of a sequence of strings [N]; without a copy where it already is one."""
    return texts.column if isinstance(texts, Texts) else pa.array(texts, TEXT)


def repeated(text: str, count: int) -> Any:
    """An arrow column of `count` times the same text."""
    return pa.repeat(pa.scalar(text, TEXT), count)


def told(column: Any) -> Any:
    """An arrow column [N] of any kind as text [N], trimmed: null and NaN are "", and 3.0 (an
    integer beside nulls) is "3". A list is its items, each followed by "|"; an empty one is "|".

    Raises pyarrow.ArrowException for what has no text, as a struct.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        return told(column.cast(kind.value_type))
    if is_list(kind):
        # The bar at the end tells a list of one from a single label.
        lists = pa.LargeListArray.from_arrays(starts(column), told(column.flatten()))
        bar = pa.scalar("|", TEXT)
        joined = pc.binary_join_element_wise(pc.binary_join(lists, bar), pa.scalar("", TEXT), bar)
        return pc.if_else(column.is_valid(), joined, "")
    if pa.types.is_float16(kind):
        return told(column.cast(pa.float32()))
    if pa.types.is_floating(kind):
        whole = pc.fill_null(pc.less(pc.abs(column), 2**53), False)
        whole = pc.and_(whole, pc.fill_null(pc.equal(pc.floor(column), column), False))
        integer = pc.if_else(whole, column, 0).cast(pa.int64()).cast(TEXT)
        nan = pc.fill_null(pc.is_nan(column), True)
        return pc.if_else(nan, "", pc.if_else(whole, integer, column.cast(TEXT)))
    if pa.types.is_boolean(kind):
        column = pc.if_else(column, "True", "False")
    return pc.fill_null(pc.utf8_trim_whitespace(column.cast(TEXT)), "")


def is_list(kind: Any) -> bool:
    """Whether an arrow type holds several values a row."""
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def starts(lists: Any) -> Any:
    """Where each list begins in `lists.flatten()`, and where the last one ends, int64 [N + 1]."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64())


def codes(column: Any) -> NDArray[np.int64]:
    """Texts [N] as numbers [N] in the order of first appearance."""
    numbers: NDArray[np.int64] = column.dictionary_encode().indices.to_numpy().astype(np.int64)
    return numbers


def encoded(column: Any) -> tuple[NDArray[np.int64], list[str]]:
    """Texts [N] as numbers [N] and what they stand for: for columns of few different texts."""
    column = column.dictionary_encode()
    return column.indices.to_numpy().astype(np.int64), column.dictionary.to_pylist()


def mask(condition: Any) -> NDArray[np.bool_]:
    """An arrow column of truth values without nulls as a numpy array [N]."""
    values: NDArray[np.bool_] = condition.to_numpy(zero_copy_only=False)
    return values


def first_of_each(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The first row [N] that has the same key as each row."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    return first[inverse].astype(np.int64)


def numbered(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """Keys [N] as 0, 1, … in the order of first appearance."""
    first = first_of_each(keys)
    is_first = first == np.arange(len(keys))
    number = np.cumsum(is_first) - 1
    return number[first].astype(np.int64)
