"""What single words of the command line mean: sizes, counts, shares, choices."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from typing import Final, Literal

from dvm_mpi import config

#: Ranks that a simulation may have.
RANKS_MAX: Final = 1 << 16
#: The lowest priority that there is.
NICENESS_MAX: Final = 19

_STDOUT: Final = 1
#: Of a terminal that does not tell.
_COLUMNS: Final = 80

_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


class Help(argparse.RawDescriptionHelpFormatter):
    """Help as wide as the terminal.

    Python makes a formatter for each option, only to look at its metavar, and each asks for the
    width by way of all that can pack files: half of the time that reading the command line takes.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_terminal_columns() - 2)


def _terminal_columns() -> int:
    """Return the width of the terminal as `shutil.get_terminal_size` does."""
    told = os.environ.get("COLUMNS", "")
    if told.isdecimal() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(_STDOUT).columns or _COLUMNS
    except OSError:
        return _COLUMNS


def parse_size(text: str) -> int:
    """Return the bytes that a size means: digits with K, M, G or T, of 1,024 each."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size; write it like 512M or 2G")
    try:
        return int(float(match[1]) * _UNITS[match[2].lower()])
    except OverflowError as error:
        raise argparse.ArgumentTypeError(f"'{text}' is more than any machine has") from error


def parse_count(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return what reads a whole number from `minimum` to `maximum`."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = minimum - 1
        if not minimum <= value <= maximum:
            raise argparse.ArgumentTypeError(
                f"'{text}' is not a whole number from {minimum:,} to {maximum:,}"
            )
        return value

    return parse


def parse_define(text: str) -> tuple[str, str]:
    """Return the two sides of NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not name or not equals or not value:
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE; write it like -D N=100")
    return name, value


def parse_share(text: str) -> float:
    """Return a share of a core."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not config.CPU_SHARE_MIN <= share <= 1:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no share of a core from {config.CPU_SHARE_MIN} to 1; write it like 0.5"
        )
    return share


def parse_niceness(text: str) -> int:
    """Return a niceness that lowers the priority."""
    try:
        niceness = int(text)
    except ValueError:
        niceness = 0
    if not 1 <= niceness <= NICENESS_MAX:
        raise argparse.ArgumentTypeError(
            f"'{text}' is no niceness from 1 to {NICENESS_MAX}; DVM lowers the priority of a rank "
            "and never raises it"
        )
    return niceness


def parse_leaders(text: str) -> int | Literal["auto", "node", "none"]:
    """Return how many leaders there are, or which."""
    named: dict[str, Literal["auto", "node", "none"]] = {
        "auto": "auto", "node": "node", "none": "none"
    }  # fmt: skip
    if text in named:
        return named[text]
    try:
        count = int(text)
    except ValueError:
        count = 0
    if not 1 <= count <= RANKS_MAX:
        raise argparse.ArgumentTypeError(
            f"'{text}' is none of auto, node, none, nor a number of leaders from 1 to {RANKS_MAX:,}"
        )
    return count
