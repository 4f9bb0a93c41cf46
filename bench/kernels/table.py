"""Which kernels there are: programs in DISA and in C, their sizes, and what is aimed at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Kernel:
    """One figure: the program `NAME.dasm` and its twin `NAME.c` with some sizes.

    `aim` is the highest ratio to the best C that is wanted, 0 if none is; `small` are sizes for
    tests, where it is the result that counts.
    """

    title: str
    program: str
    aim: float
    sizes: Mapping[str, int] = field(default_factory=dict)
    small: Mapping[str, int] = field(default_factory=dict)


_TABLE: Final = {"BITS": 23, "ACCESSES": 4_000_000}
_SMALL_TABLE: Final = {"BITS": 12, "ACCESSES": 3_000}

# fmt: off
KERNELS: Final = (
    Kernel("primes", "primes", 1.05,
           {"LIMIT": 500_000}, {"LIMIT": 5_000}),
    Kernel("k-means inner loop", "kmeans", 1.5,
           {"N": 200_000, "DIMS": 4, "K": 10}, {"N": 500}),
    Kernel("vector add, in L2", "vectoradd", 1.15,
           {"N": 65_536, "PASSES": 200}, {"N": 1_000, "PASSES": 2}),
    Kernel("vector add, in memory", "vectoradd", 1.15,
           {"N": 4_000_000, "PASSES": 1}, {"N": 1_001, "PASSES": 1}),
    Kernel("matrix multiply, i j k", "matmul", 1.3,
           {"N": 512, "ORDER": 0}, {"N": 24, "ORDER": 0}),
    Kernel("matrix multiply, i k j", "matmul", 1.3,
           {"N": 512, "ORDER": 1}, {"N": 24, "ORDER": 1}),
    Kernel("random loads, 64 MiB", "random", 1.5,
           {**_TABLE, "UPDATES": 0}, {**_SMALL_TABLE, "UPDATES": 0}),
    Kernel("random updates, 64 MiB", "random", 1.5,
           {**_TABLE, "UPDATES": 1}, {**_SMALL_TABLE, "UPDATES": 1}),
    Kernel("integer sort", "sort", 0,
           {"N": 1_000_000}, {"N": 3_000}),
    Kernel("calls", "calls", 2,
           {"COUNT": 10_000_000}, {"COUNT": 1_000}),
    Kernel("calls, recursive", "fib", 2,
           {"INDEX": 32}, {"INDEX": 15}),
)
# fmt: on
