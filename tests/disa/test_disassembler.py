"""Text of images: assembled again, it gives the same program."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvm_mpi import layout
from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.disassembler import constant_text, disassemble
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.types import BY_NAME

JOBS = sorted(Path(__file__).parents[2].glob("jobs/*/*.dasm"))
#: Files of macros, which are no programs by themselves.
LIBRARY = "lib"


def assert_identity(image: Image) -> None:
    again = assemble_text(disassemble(image), "again.dasm", {})
    assert again.text == image.text
    assert again.sections == image.sections
    assert again.entry == image.entry
    assert again.arrays == image.arrays
    assert np.array_equal(again.reserved, image.reserved)
    shared = {n: a for n, a in image.symbols.items() if a >= layout.SR_START}
    assert shared.items() <= again.symbols.items()
    if not image.is_flat:
        assert image.lines is not None
        assert again.lines is not None
        assert np.array_equal(again.lines.addresses, image.lines.addresses)


def test_a_bit_of_everything(varied: Image) -> None:
    assert_identity(varied)


@pytest.mark.parametrize(
    "path", [p for p in JOBS if p.parent.name != LIBRARY], ids=lambda p: p.stem
)
def test_jobs(path: Path) -> None:
    assert_identity(assemble_file(path, {}))


def flat(data: bytes) -> Image:
    span = (layout.DATA_START, layout.STACKS_START - layout.DATA_START)
    return Image(layout.TEXT_START, data, (), np.array([span], layout.RANGE))


def test_random_flat_images() -> None:
    rng = random.Random(7)
    for _ in range(150):
        # Small numbers are likely opcodes; zeros come in runs of all lengths.
        data = bytes(rng.choice((rng.randrange(32), rng.randrange(256), 0)) for _ in range(200))
        place = rng.randrange(200)
        assert_identity(flat(data[:place] + bytes(rng.randrange(80)) + data[place:]))


def test_a_flat_image_keeps_data_between_instructions(varied: Image) -> None:
    assert_identity(flat(varied.text))
    assert_identity(
        flat(b"\x07\x00" + (layout.TEXT_START + 15).to_bytes(8, "little") + b"table\x06\x00")
    )


def test_padding_bits_that_are_not_zero_become_bytes() -> None:
    text = disassemble(flat(b"\x06\x7f\x06\x40"))
    assert ".byte 0x06, 0x7f" in text
    assert "exit:a" in text
    assert_identity(flat(b"\x06\x7f\x06\x40"))


def test_labels_are_shown_and_made() -> None:
    image = assemble_text("main: br:j main + 10\nbr:z r1, main\n", "t.dasm", {})
    text = disassemble(image)
    assert "main:\n    br:j L_40000000a\nL_40000000a:\n    br:z r1, main" in text


def test_names_that_no_label_may_have_are_left_out(varied: Image) -> None:
    """Another program may have written the image; its names are only words."""
    symbols = varied.symbols | {"add": layout.TEXT_START + 30, ".x": layout.TEXT_START + 30}
    again = assemble_text(disassemble(replace(varied, symbols=symbols)), "t.dasm", {})
    assert again.text == varied.text


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(BY_NAME)), st.integers(0, 2**64 - 1))
def test_constants_keep_their_bits(name: str, bits: int) -> None:
    type_ = BY_NAME[name]
    bits &= (1 << 8 * type_.width_bytes) - 1
    text = constant_text(bits, type_)
    (section,) = assemble_text(f"nop\n.array a, {name}, 1 = {text}", "t.dasm", {}).sections
    assert section.data == bits.to_bytes(type_.width_bytes, "little")


@pytest.mark.parametrize(
    "value", ["inf", "-inf", "nan", "-0.0", "5e-324", "bits(0xfff8000000000001)"]
)
def test_odd_floats(value: str) -> None:
    assert_identity(assemble_text(f"mov ${value}:fd, r1:fd", "t.dasm", {}))


def test_text_without_an_instruction_comes_back() -> None:
    image = assemble_text("here: .quad 7, 8", "data.dasm", {})
    assert assemble_text(disassemble(image), "again.dasm", {}).text == image.text
