"""`exp` and `log`: the same bits in every engine, and close to the true value."""

from __future__ import annotations

import math
import random
import struct
from decimal import Decimal, localcontext

import pytest

from dvm_mpi.engine import elementary, reference_elementary

EDGES = (
    0.0, -0.0, 1.0, -1.0, 5e-324, -5e-324, 2.0**-1022, 2.0**-54, math.inf, -math.inf, math.nan,
    709.782712893384, 709.7827128933841, -745.1332191019411, -745.1332191019412, -708.4, -740.0,
    1e308, 1.7976931348623157e308, math.sqrt(2.0), math.sqrt(0.5), 0.5 * math.log(2.0),
    math.nextafter(1.0, 0.0), math.nextafter(1.0, 2.0),
)  # fmt: skip


def arguments(rng: random.Random, count: int) -> list[float]:
    drawn = [rng.uniform(-745, 710) for _ in range(count)]
    drawn += [rng.uniform(-1, 1) * 2.0 ** -rng.randrange(60) for _ in range(count)]
    drawn += [rng.uniform(0.5, 2.0) for _ in range(count)]
    drawn += [struct.unpack("<d", rng.randbytes(8))[0] for _ in range(count)]
    return [*EDGES, *drawn]


def bits(value: float) -> bytes:
    # NaNs become canonical outside of these functions.
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


@pytest.mark.parametrize("name", ["exp", "log"])
def test_both_tiers_have_the_same_bits(name: str) -> None:
    compiled, plain = getattr(elementary, name), getattr(reference_elementary, name)
    for x in arguments(random.Random(1), 2_000):
        assert bits(compiled(x)) == bits(plain(x)), x.hex()


def error_ulp(got: float, true: Decimal) -> float:
    return float(abs(Decimal(got) - true) / Decimal(math.ulp(got)))


def test_errors_stay_below_one_unit_in_the_last_place() -> None:
    exp, log = reference_elementary.exp, reference_elementary.log
    with localcontext() as context:
        context.prec = 40
        for x in arguments(random.Random(2), 400):
            if math.isfinite(x) and -745.0 < x < 709.7:
                assert error_ulp(exp(x), Decimal(x).exp()) < 1.0, x.hex()
            if math.isfinite(x) and x > 0.0 and x != 1.0:
                assert error_ulp(log(x), Decimal(x).ln()) < 1.0, x.hex()


def test_exact_values() -> None:
    assert reference_elementary.exp(0.0) == 1.0
    assert reference_elementary.exp(1.0) == math.e
    assert math.copysign(1.0, reference_elementary.log(1.0)) == 1.0
    assert reference_elementary.log(1.0) == 0.0
    assert reference_elementary.exp(-745.0) == 5e-324
