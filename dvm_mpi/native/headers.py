"""How compiled code reads numpy arrays: by the header that numpy's own macros read.

An array is passed as the address of its object. Where data, shape and type are in it is part of
numpy's binary interface, on which every extension module relies; `check` looks anyway.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

import numpy as np

#: Words of the array object, each of 8 bytes.
DATA: Final = 2
NDIM: Final = 3  # the lower half
SHAPE: Final = 4
DESCRIPTION: Final = 7
FLAGS: Final = 8  # the lower half
HEADER_WORDS: Final = 9
#: The word of a type's description whose upper half is its number; one byte is the byte order.
TYPE: Final = 3
ORDER_SHIFT: Final = 16
ORDER_MASK: Final = 0xFF
SWAPPED: Final = ord(">" if sys.byteorder == "little" else "<")
TYPE_WORDS: Final = 4

LOW_HALF: Final = 0xFFFF_FFFF
HALF_BITS: Final = 32
#: In C order, and aligned.
FLAGS_NEEDED: Final = 0x101


def check() -> None:
    """Assert that arrays of this numpy, in this Python, look as compiled code takes them."""
    array = np.arange(6, dtype=np.int64).reshape(2, 3)
    header = _words(id(array), HEADER_WORDS)
    wrong = "compiled code does not know this numpy's arrays"
    assert header[DATA] == array.ctypes.data, wrong
    assert header[NDIM] & LOW_HALF == array.ndim, wrong
    assert tuple(_words(header[SHAPE], array.ndim)) == array.shape, wrong
    assert header[DESCRIPTION] == id(array.dtype), wrong
    assert header[FLAGS] & LOW_HALF == array.flags.num, wrong
    description = _words(id(array.dtype), TYPE_WORDS)[TYPE]
    assert description >> HALF_BITS == array.dtype.num, wrong
    assert description >> ORDER_SHIFT & ORDER_MASK == ord(array.dtype.byteorder), wrong


def _words(address: int, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(address))
