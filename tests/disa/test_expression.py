"""The parser and evaluator against Python's own, and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi.disa.expression import Bits, Cursor, Unplaced, Value
from dvm_mpi.disa.lexer import tokenize
from dvm_mpi.disa.source import Fault, Span


class Names:
    """A scope of a few names."""

    VALUES: dict[str, Value] = {"n": 5, "x": 2.5, "b0": Unplaced(0), "b8": Unplaced(8)}  # noqa: RUF012

    def value_of(self, name: str, span: Span) -> Value:
        if name not in self.VALUES:
            raise Fault(span, f"{name} unknown", "")
        return self.VALUES[name]

    def is_defined(self, name: str) -> bool:
        return name in self.VALUES

    def here(self) -> Value:
        return 0x400


def value(text: str) -> Value:
    cursor = Cursor(tokenize(text))
    node = cursor.expression()
    cursor.expect_end()
    return node.evaluate(Names())


def _combine(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    signs = st.sampled_from(["+", "-", "*", "&", "|", "^", "<", ">=", "==", "!="])
    shifts = st.tuples(children, st.sampled_from(["<<", ">>"]), st.integers(0, 9)).map(
        lambda t: f"(({t[0]}) {t[1]} {t[2]})"
    )
    return st.one_of(
        # A comparison is grouped: Python would chain `a < b < c`.
        st.tuples(children, signs, children).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})" if t[1][0] in "<>=!" else f"{t[0]} {t[1]} {t[2]}"
        ),
        shifts,
        st.tuples(st.sampled_from("-+~"), children).map("".join),
        children.map(lambda t: f"({t})"),
    )


integers = st.integers(0, 999).map(str)


@settings(max_examples=300, deadline=None)
@given(st.recursive(integers, _combine, max_leaves=12))
def test_integers_agree_with_python(text: str) -> None:
    expected = int(eval(text))
    # Numbers of 128 bits and more are refused, also on the way to a small result.
    found: Value | str
    try:
        found = value(text)
    except Fault as fault:
        found = fault.what
    assert found in (expected, "the result is too large")
    assert found == expected or "<<" in text or "*" in text


@settings(max_examples=100, deadline=None)
@given(st.integers(-(2**63), 2**63), st.integers(-(2**63), 2**63).filter(bool))
def test_division_truncates_and_the_remainder_has_the_dividends_sign(a: int, b: int) -> None:
    quotient, remainder = value(f"({a}) / ({b})"), value(f"({a}) % ({b})")
    assert isinstance(quotient, int)
    assert isinstance(remainder, int)
    assert quotient * b + remainder == a
    assert abs(remainder) < abs(b)
    assert remainder == 0 or (remainder < 0) == (a < 0)


# fmt: off
VALUES = [
    ("2 + 3 * 4",            14),
    ("-2 * -3",              6),
    ("- 7 / 2",              -3),
    ("1 | 2 ^ 3 & 6",        1),
    ("1 << 2 + 1",           8),
    ("n == 5 && x > 2",      1),
    ("!n || 0",              0),
    ("x * 2",                5.0),
    ("1 / 4.0",              0.25),
    ("-0.0",                 -0.0),
    (". + 4",                0x404),
    ("defined(n) + defined(zz)", 1),
    ("bits(0x7ff8000000000001)", Bits(0x7FF8000000000001)),
    ("b8 - b0",              8),
    ("b0 + 16",              Unplaced(16)),
    ("b8 - 8 == b0",         1),
]
# fmt: on


@pytest.mark.parametrize(("text", "expected"), VALUES)
def test_values(text: str, expected: Value) -> None:
    assert repr(value(text)) == repr(expected)


# fmt: off
FAULTS = [
    ("1 +",             (3, 4),  "an expression is missing"),
    ("1 + * 2",         (4, 5),  "'*' begins no expression"),
    ("(1 + 2",          (6, 7),  "')' is missing after the expression"),
    ("1 2",             (2, 3),  "'2' is left over"),
    ("4 / (n - 5)",     (4, 11), "division by zero"),
    ("x % 2",           (0, 5),  "'%' cannot be applied to a float"),
    ("~x",              (0, 2),  "'~' cannot be applied to a float"),
    ("bits(1) + 1",     (0, 11), "'+' cannot be applied to bits()"),
    ("1 << 200",        (5, 8),  "the shift count 200 is out of range"),
    ("(1 << 100) * (1 << 100)", (0, 23), "the result is too large"),
    ("b0 * 2",          (0, 6),  "the address of a label in .bss is not known yet"),
    ("1 + zz",          (4, 6),  "zz unknown"),
]
# fmt: on


@pytest.mark.parametrize(("text", "span", "what"), FAULTS)
def test_faults_point_at_the_columns(text: str, span: tuple[int, int], what: str) -> None:
    with pytest.raises(Fault) as caught:
        value(text)
    assert (caught.value.span, caught.value.what) == (span, what)


@pytest.mark.parametrize("text", ["(" * 5000 + "1", "-" * 5000 + "1", "1" + "+1" * 5000])
def test_endless_expressions_meet_the_limit(text: str) -> None:
    with pytest.raises(Fault, match="EXPRESSION_TERMS_MAX"):
        value(text)
