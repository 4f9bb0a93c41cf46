"""The one way in which this package compiles Python: numba, cached by the sources' digest.

numba's cache looks only at the file of the function that was asked for; a change in a function
that it calls would go unnoticed. Here the directory of the cache is named after all sources of
the engine, so that code compiled from other sources is never loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from numba.core import config

Function = TypeVar("Function", bound=Callable[..., Any])

_SOURCES: Final = Path(__file__).parent
_DIGEST_DIGITS: Final = 16


def _sources_digest() -> str:
    digest = hashlib.sha256()
    package = _SOURCES.parent
    # The compiled code also holds constants of the address map and the limits.
    for path in sorted([*_SOURCES.glob("*.py"), package / "layout.py", package / "config.py"]):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:_DIGEST_DIGITS]


def _cache_directory() -> str:
    """Return where compiled code is kept: numba's directory if one is set, else beside us."""
    root = Path(config.CACHE_DIR) if config.CACHE_DIR else _SOURCES / "__pycache__"
    return str(root / f"dvm-engine-{_sources_digest()}")


_CACHE_DIRECTORY: Final = _cache_directory()


def _plain(argument: Any) -> Any:
    """Return the type to compile for: an int64 for constants and members of enumerations."""
    argument = numba.types.unliteral(argument)
    return numba.int64 if isinstance(argument, numba.types.IntEnumMember) else argument


def compiled(function: Function) -> Function:
    """Compile a function, once for all its callers, when the first of them is compiled.

    Left to itself, numba compiles a function anew for each constant that it is called with;
    that doubled the time to compile the engine (25 s against 13 s).
    """
    dispatcher = numba.njit(error_model="numpy")(function)
    by_types = dispatcher.get_call_template

    def by_plain_types(args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
        return by_types(tuple(map(_plain, args)), kws)

    dispatcher.get_call_template = by_plain_types
    result: Function = dispatcher
    return result


def compiled_entry(function: Function) -> Function:
    """Compile a function that Python calls, and keep the result for later processes."""
    before = config.CACHE_DIR
    config.CACHE_DIR = _CACHE_DIRECTORY
    try:
        result: Function = numba.njit(error_model="numpy", cache=True)(function)
    finally:
        config.CACHE_DIR = before
    return result
