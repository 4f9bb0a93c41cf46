"""How this package compiles a loop: the one place that knows numba's decorator.

A kernel is a free function on arrays and integers. It is compiled at its first call and kept in
the on-disk cache. The cache watches only the file that a kernel stands in, so kernels that call
one another stand in one file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


def kernel(function: Function) -> Function:
    """Compile `function` lazily, without the interpreter, and keep its typed signature."""
    return cast(Function, njit(cache=True)(function))
