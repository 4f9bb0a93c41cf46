"""Words, numbers, strings and what is none."""

from __future__ import annotations

import pytest

from dvm_mpi.disa.lexer import TokenKind, tokenize
from dvm_mpi.disa.source import Fault

# fmt: off
NUMBERS = [
    ("0",         0),    ("42",        42),     ("1_000",  1000),
    ("0x1F",      31),   ("0XfF",      255),    ("0x1e5",  0x1E5),
    ("0b101",     5),    ("0o17",      15),     ("017",    15),
    ("'a'",       97),   (r"'\n'",     10),     (r"'\x41'", 65),   (r"'\''", 39),  ("'#'", 35),
    ("1.5",       1.5),  (".5",        0.5),    ("2e-3",   0.002), ("1.",    1.0), ("1e+16", 1e16),
]
# fmt: on


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_numbers(text: str, value: float) -> None:
    number, end = tokenize(text)
    assert number.value == value
    assert type(number.value) is type(value)
    assert end.kind is TokenKind.END


# fmt: off
FAULTS = [
    ("08",             (0, 2),  "'08' is not a number"),
    ("x + 12ab",       (4, 8),  "'12ab' is not a number"),
    ("0x",             (0, 2),  "'0x' is not a number"),
    ("1.2.3",          (0, 5),  "'1.2.3' is not a number"),
    ("0x" + "f" * 33,  (0, 35), "the number is too large"),
    ("9" * 5000,       (0, 5000), None),
    ('a "open',        (2, 3),  "a quote is opened and not closed"),
    ("'ab'",           (0, 1),  "a quote is opened and not closed"),
    (r'"a\qb"',        (2, 4),  r"'\q' is no escape"),
    ("'é'",            (0, 3),  "'é' is more than one byte"),
    (r"mov \n, r1",    (4, 6),  r"'\n' names no parameter of a macro"),
    ("a ? b",          (2, 3),  "'?' does not belong here"),
    ("é",              (0, 1),  "'é' does not belong here"),
]
# fmt: on


@pytest.mark.parametrize(("text", "span", "what"), FAULTS, ids=[f[0][:20] for f in FAULTS])
def test_faults_point_at_the_columns(text: str, span: tuple[int, int], what: str | None) -> None:
    with pytest.raises(Fault) as caught:
        tokenize(text)
    assert caught.value.span == span
    if what is not None:
        assert caught.value.what == what


def test_strings_are_utf8_and_hold_comment_signs() -> None:
    (string, _) = tokenize(r'"a;#é\x80\0"')
    assert string.data == b"a;#\xc3\xa9\x80\x00"


@pytest.mark.parametrize("sign", [";", "#"])
def test_a_comment_ends_the_code(sign: str) -> None:
    words = tokenize(f"nop  {sign} it's a \"comment")
    assert [w.text for w in words] == ["nop", ""]
    assert words[-1].start == 5


def test_signs_of_two_characters_are_one_word() -> None:
    words = [w.text for w in tokenize("a<<b>=c&&d!=-e")][:-1]
    assert words == ["a", "<<", "b", ">=", "c", "&&", "d", "!=", "-", "e"]
