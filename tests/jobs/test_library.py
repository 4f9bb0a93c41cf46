"""The macros and functions of `jobs/lib`."""

from __future__ import annotations

import pytest

from tests.jobs.machine import run_text

PRINT = """
        .include "../lib/print.dasm"
        .private cell
        .entry main
main:
"""


@pytest.mark.parametrize(
    "value", [0, 1, 9, 10, -1, -10, 1234567890123456789, (1 << 63) - 1, -(1 << 63)]
)
def test_print_decimal(value: int) -> None:
    text = f"{PRINT} mov ${value}, cell\n print_decimal cell\n exit\n"
    assert run_text(text) == str(value)


@pytest.mark.parametrize(
    ("value", "places", "printed"),
    [
        ("0.0", 2, "0.00"),
        ("1.5", 0, "2"),
        ("2.25", 1, "2.3"),
        ("-3.14159", 3, "-3.142"),
        ("0.0625", 4, "0.0625"),
        ("0.999", 2, "1.00"),
        ("123456.789", 6, "123456.789000"),
    ],
)
def test_print_double(value: str, places: int, printed: str) -> None:
    text = f"{PRINT} mov ${value}:fd, cell:fd\n print_double cell, {places}\n exit\n"
    assert run_text(text) == printed


@pytest.mark.parametrize("value", [0x00, 0x0F, 0xF0, 0xA5, 0xFF, 0x1234])
def test_print_hex_byte(value: int) -> None:
    text = f"{PRINT} mov ${value}, cell\n print_hex_byte cell\n exit\n"
    assert run_text(text) == f"{value & 0xFF:02x}"


def test_print_text_and_char() -> None:
    text = (
        f'{PRINT} print_text "one, "\n print_text ""\n print_text "two"\n print_char $33\n exit\n'
    )
    assert run_text(text) == "one, two!"


def test_nothing_is_printed_by_an_abort() -> None:
    assert run_text(f'{PRINT} print_text "never"\n exit:a\n') == ""


@pytest.mark.parametrize(("size", "parts"), [(10, 3), (3, 5), (64, 64), (1, 1)])
def test_part_bounds_cover_everything_once(size: int, parts: int) -> None:
    text = f"""
        .include "../lib/print.dasm"
        .include "../lib/parts.dasm"
        .private number, first, end
        .entry main
main:   part_bounds number, {size}, {parts}, first, end
        print_decimal first
        print_char $' '
        print_decimal end
        print_char $' '
        add number, $1, number
        br:l number, ${parts}, main
        exit
"""
    bounds = [int(word) for word in run_text(text).split()]
    starts, ends = bounds[::2], bounds[1::2]
    assert starts == [p * size // parts for p in range(parts)]
    assert ends == [*starts[1:], size]
