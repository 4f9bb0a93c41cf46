"""Records that are made from patterns hold what they hold if each is made by itself."""

from __future__ import annotations

import random

import pytest

from dvm_mpi.disa.encoding import decode
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.table import BY_CONDITION, BY_MNEMONIC
from dvm_mpi.engine.patterns import pattern_of
from dvm_mpi.engine.predecode import Program
from dvm_mpi.layout import PAGE_BYTES, PR_START, TEXT_START
from dvm_mpi.values import replace
from tests.engine.machine import at, imm, op, program, via
from tests.engine.naive_records import NaiveRecords
from tests.engine.random_programs import random_listing

PROGRAMS = 60


def compare(image: Image) -> list[tuple[str, str | None]]:
    """Compare all records of an image with the naive ones; return which instructions these are."""
    made, naive, seen = Program(image), NaiveRecords(), []
    assert image.lines is not None
    for pc in image.lines.addresses.tolist():
        instruction = decode(image.text, pc - TEXT_START, pc)
        record = int(made.record_at[pc - TEXT_START])
        assert naive.mismatches(record, instruction) == [], instruction
        seen.append((instruction.mnemonic, instruction.condition))
    assert made.static_pages == naive.static_pages
    return seen


def test_records_of_random_programs_are_the_naive_ones() -> None:
    seen = set()
    for seed in range(PROGRAMS):
        listing = random_listing(random.Random(seed))
        seen |= set(compare(program(*listing, op("br:ji", via(PR_START, -seed)))))
    assert {mnemonic for mnemonic, _ in seen} == BY_MNEMONIC.keys()
    assert {condition for _, condition in seen} - {None} == BY_CONDITION.keys()


@pytest.mark.parametrize("places", [13, 14, 15])
@pytest.mark.parametrize("gap", [0, 1])
def test_cells_across_two_pages_become_static_if_there_is_room_for_both(
    places: int, gap: int
) -> None:
    """The first page may be static already, and the last place may be one too few."""
    pages = [op("mov", imm(1), at(PR_START + i * PAGE_BYTES)) for i in range(1, places + 1)]
    across = PR_START + (places + 1 + gap) * PAGE_BYTES - 4
    compare(program(*pages, op("mov", at(across), via(across)), op("mov", imm(1), at(across + 4))))


def test_bytes_beyond_a_narrow_constant_mean_nothing() -> None:
    image = program(op("br:nz", imm(200), types="ub", target=0), op("exit:c"))
    text = image.text.replace(b"\xc8" + bytes(7), b"\xc8" + b"\xff" * 7)
    assert text != image.text
    compare(replace(image, text=text))


def test_one_pattern_serves_all_instructions_with_the_same_header() -> None:
    image = program(op("add", at(PR_START + 64), imm(5), at(PR_START + 72)), op("nop"))
    other = program(op("nop"), op("add", at(PR_START), imm(-1 & (1 << 64) - 1), at(PR_START + 8)))
    assert pattern_of(image.text[:3]) is pattern_of(other.text[1:4])
