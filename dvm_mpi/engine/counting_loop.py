"""The fast engine's loop once more, for profiles: the same functions, but arrivals are counted.

A library of its own (counting_entries.py), which is compiled when somebody first takes a profile.
What runs without one has not an instruction more than if there were none.
"""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from dvm_mpi.engine import loop
from dvm_mpi.engine.compiled import compiled


def _with(function: Callable[..., Any], **globals_changed: Any) -> Callable[..., Any]:
    """Return a function that sees other values under some of its module's names."""
    plain: Any = getattr(function, "py_func")  # noqa: B009 - what numba adds is not in the type
    seen = {**plain.__globals__, **globals_changed}
    return compiled(FunctionType(plain.__code__, seen, plain.__name__))


_execute = _with(loop.execute, COUNTS_ARRIVALS=True)
_interpret = _with(loop.interpret, execute=_execute)
_execute_translated = _with(loop.execute_translated, interpret=_interpret)
_advance = _with(loop.advance, interpret=_interpret, execute_translated=_execute_translated)
run = _with(loop.run, advance=_advance)
clear = loop.clear
settle = loop.settle
look = loop.look
