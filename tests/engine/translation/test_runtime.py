"""Functions of a unit's own module, and what LLVM makes of them."""

from __future__ import annotations

import re

import pytest

from dvm_mpi.engine.translate import intermediate
from dvm_mpi.engine.translation import emission
from dvm_mpi.engine.translation.runtime import _TAKEN_IN_MAX
from tests.engine.translation.texts import Seen


def storing(count: int) -> Seen:
    """Return a program with a loop that stores to so many places, none beside another."""
    stores = "".join(f"        mov     i, {48 * k}(at)\n" for k in range(count))
    return Seen(f"""
        .array  data, sq, 65536
        .private i, at
        .entry  main
        .text
main:   mov     $data, at
again:
{stores}
        add     at, $8, at
        add     i, $1, i
        br:l    i, $1000, again
        exit:c
""")


@pytest.mark.parametrize("count", [_TAKEN_IN_MAX, _TAKEN_IN_MAX + 1])
def test_what_many_places_call_is_not_taken_in(count: int) -> None:
    seen = storing(count)
    text = intermediate(seen.code, seen.unit)
    assert len(re.findall('call void @"mark_each_8"', text)) == count
    (definition,) = re.findall('define internal void @"mark_each_8".*', text)
    assert ("noinline" in definition) == (count > _TAKEN_IN_MAX)


def test_a_loop_with_many_stores_grows_no_further() -> None:
    """Each place would bring a loop along, which LLVM unrolls."""
    seen = storing(60)
    text = intermediate(seen.code, seen.unit)
    optimised = str(emission.optimised(text, 3))
    assert optimised.count("\n") < text.count("\n")
