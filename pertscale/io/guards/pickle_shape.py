"""How deep a pickle nests, found by walking its opcodes without running them.

CPython hashes nested tuples by unbounded recursion: a dictionary key that is nested a million
times, at three bytes a level, ends the process. And a number in the file says how many memorised
objects there will be, for all of which memory is reserved.
"""

from __future__ import annotations

import pickletools
from enum import IntEnum
from typing import Any, Final

import numpy as np

from pertscale._jit import jit
from pertscale.errors import CorruptFileError, InputError

#: Tuples inside of tuples. Arrays have four.
MOST_NESTED: Final = 200


class Fault(IntEnum):
    """Why a pickle is not loaded."""

    NONE = 0
    CUT = 1
    UNKNOWN = 2
    STACK = 3
    MEMO = 4
    NESTED = 5


class _Does(IntEnum):
    """What an opcode does that matters here, beside taking objects from the stack and giving."""

    OTHER = 0
    MARK = 1
    TUPLE = 2
    GET = 3
    PUT = 4
    MEMOIZE = 5
    DUPLICATE = 6
    STOP = 7


#: Sizes of arguments: bytes; or up to one line end, two of them; or as a number before them says.
_LINE, _LINES, _UNKNOWN = -1, -2, -100


def _tables() -> np.ndarray:
    """Return columns by opcode: size of the argument, of what it takes and gives, what it does."""
    does = {
        "MARK": _Does.MARK,
        "DUP": _Does.DUPLICATE,
        "MEMOIZE": _Does.MEMOIZE,
        "STOP": _Does.STOP,
        **dict.fromkeys(("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"), _Does.TUPLE),
        **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Does.GET),
        **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Does.PUT),
    }
    prefixed = {
        pickletools.TAKEN_FROM_ARGUMENT1: -11,
        pickletools.TAKEN_FROM_ARGUMENT4: -14,
        pickletools.TAKEN_FROM_ARGUMENT4U: -14,
        pickletools.TAKEN_FROM_ARGUMENT8U: -18,
    }
    table = np.full((256, 5), _UNKNOWN, np.int64)
    for op in pickletools.opcodes:
        size = 0 if op.arg is None else prefixed.get(op.arg.n, op.arg.n)
        if op.arg is not None and op.arg.n == pickletools.UP_TO_NEWLINE:
            size = _LINES if op.arg.name.endswith("pair") else _LINE
        before = [kind.name for kind in op.stack_before]
        taken = len([name for name in before if name not in ("mark", "stackslice")])
        marked = "mark" in before
        if op.name == "OBJ":  # the class is above the mark
            taken = 0
        table[ord(op.code)] = (
            size,
            taken,
            marked,
            len(op.stack_after),
            does.get(op.name, _Does.OTHER),
        )
    return table


_OPCODES: Final = _tables()


def check_shape(data: np.ndarray) -> None:
    """Raise where a pickle nests too deep, or its opcodes make no sense; nothing of it is run.

    Raises
    ------
    InputError
        Tuples inside of tuples beyond :data:`MOST_NESTED`.
    CorruptFileError
        It is truncated or not a pickle.
    """
    fault, at = _walk(data, _OPCODES, MOST_NESTED)
    if fault == Fault.NESTED:
        raise InputError(
            f"the pickle has more than {MOST_NESTED} tuples inside of each other, which no table "
            "of vectors has, so it was not loaded"
        )
    if fault != Fault.NONE:
        reason = {
            Fault.CUT: "it ends early",
            Fault.UNKNOWN: "a byte that is not an opcode",
            Fault.STACK: "an opcode that takes what is not there",
            Fault.MEMO: "a place for more objects than there are",
        }[Fault(fault)]
        raise CorruptFileError(
            f"not a complete pickle of plain data: {reason}, at byte {at:,} of {len(data):,}"
        )


@jit
def _walk(data: np.ndarray, opcodes: np.ndarray, most: int) -> tuple[Any, Any]:
    """Return a fault and the byte where it is; the stack holds depths in place of objects."""
    stack, marks, memo = np.zeros(64, np.int32), np.zeros(64, np.int64), np.full(64, -1, np.int32)
    height, n_marks, n_memo, n_ops = 0, 0, 0, 0
    at, end = 0, len(data)
    while at < end:
        code, start = data[at], at
        size, taken, marked, given, does = opcodes[code]
        at += 1
        n_ops += 1
        if size == -100:
            return Fault.UNKNOWN, start
        number = np.int64(0)
        if size <= -11:  # the size is before the bytes
            width = -size - 10
            if at + width > end:
                return Fault.CUT, start
            for i in range(width):
                number |= np.int64(data[at + i]) << (8 * i)
            at += width
            if number < 0 or number > end - at:
                return Fault.CUT, start
            at += number
        elif size < 0:
            decimal = does == _Does.GET or does == _Does.PUT
            for _ in range(-size):
                first = at
                while at < end and data[at] != 10:
                    if decimal:
                        if data[at] < 48 or data[at] > 57 or at - first > 9:
                            return Fault.MEMO, start
                        number = 10 * number + data[at] - 48
                    at += 1
                if at == end:
                    return Fault.CUT, start
                at += 1
        else:
            if at + size > end:
                return Fault.CUT, start
            if size <= 4:
                for i in range(size):
                    number |= np.int64(data[at + i]) << (8 * i)
            at += size
        if does == _Does.STOP:
            return (Fault.NONE, start) if height else (Fault.STACK, start)
        # a mark is no object, and nothing below the last one is taken
        floor = marks[n_marks - 1] if n_marks else 0
        if does == _Does.MARK:
            if n_marks == len(marks):
                marks = np.concatenate((marks, np.zeros(n_marks, np.int64)))
            marks[n_marks] = height
            n_marks += 1
            continue
        if does == _Does.PUT or does == _Does.MEMOIZE:
            index = n_memo if does == _Does.MEMOIZE else number
            if height == floor:
                return Fault.STACK, start
            if index > n_ops:
                return Fault.MEMO, start
            while index >= len(memo):
                memo = np.concatenate((memo, np.full(len(memo), -1, np.int32)))
            n_memo += memo[index] < 0
            memo[index] = stack[height - 1]
            continue
        deepest = np.int32(0)
        if marked:
            if not n_marks:
                return Fault.STACK, start
            for i in range(floor, height):
                deepest = max(deepest, stack[i])
            height = floor
            n_marks -= 1
            floor = marks[n_marks - 1] if n_marks else 0
        if height - floor < taken:
            return Fault.STACK, start
        if does == _Does.DUPLICATE:
            deepest = stack[height - 1]
        else:
            for i in range(height - taken, height):
                deepest = max(deepest, stack[i])
            height -= taken
        depth = np.int32(0)
        if does == _Does.TUPLE:
            depth = deepest + 1
            if depth > most:
                return Fault.NESTED, start
        elif does == _Does.GET:
            if number >= len(memo) or memo[number] < 0:
                return Fault.MEMO, start
            depth = memo[number]
        if height + given >= len(stack):
            stack = np.concatenate((stack, np.zeros(len(stack), np.int32)))
        if does == _Does.DUPLICATE:
            height += 1
            stack[height - 1] = deepest
            continue
        for _ in range(given):
            stack[height] = depth
            height += 1
    return Fault.CUT, end
