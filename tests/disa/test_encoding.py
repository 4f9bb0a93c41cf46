"""The layouts, by hand from the DISA manual, and the round trip of every form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dvm_mpi.disa.encoding import (
    DecodeError,
    DecodeFault,
    decode,
    encode,
    encoded_size,
)
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import EXIT_SUFFIXES, ExitMode
from dvm_mpi.disa.types import Mode

HERE = 0x4_0000_0000
CELL = 0x2_0000_0010

D = Operand(Mode.DIRECT, CELL)
N = Operand(Mode.INDIRECT, CELL)
P = Operand(Mode.DISPLACED, CELL, 8)


def i(bits: int) -> Operand:
    return Operand(Mode.IMMEDIATE, bits)


#: In the bytes, C stands for the address of the cell, H for HERE.
# fmt: off
BY_HAND = [
    # head         operands               bytes
    ("nop",        (),                    "00"),
    ("add:sq",     (N, P, D),             "01 09 90 C 08000000 C C"),
    ("sub:uq",     (i(1), D, D),          "02 80 90 0100000000000000 C C"),
    ("mul:fd",     (i(0x3FF8 << 48), D, D), "03 20 90 000000000000f83f C C"),
    ("div:sd",     (i(0xFFFFFFFE), D, D), "04 60 90 feffffff C C"),
    ("newr",       (D, D, D, i(16)),      "05 24 80 C C C 1000000000000000"),
    ("exit:c",     (),                    "06 00"),
    ("exit:a",     (),                    "06 40"),
    ("exit:cd",    (),                    "06 80"),
    ("exit:ad",    (),                    "06 c0"),
    ("br:j",       (),                    "07 00 H"),
    ("br:j:rel",   (),                    "07 08 0000000000000000"),
    ("br:ji",      (D,),                  "07 12 C"),
    ("br:le:sq",   (D, i(5)),             "07 20 40 C 0500000000000000 H"),
    ("br:l:ub:rel", (i(200), D),          "07 3c 0c c800000000000000 C 0000000000000000"),
    ("br:e:fs",    (D, D),                "07 44 48 C C H"),
    ("br:ne:ud",   (D, N),                "07 5e 50 C C H"),
    ("br:z:fs",    (D,),                  "07 64 40 C H"),
    ("br:nz:sq:rel", (N,),                "07 70 a0 C 0000000000000000"),
    ("br:sl:sq",   (D, D),                "07 80 48 C C H"),
    ("br:sl:fd",   (D, D),                "07 82 48 C C H"),
    ("and:sb",     (i(0xFF), D, D),       "08 a0 90 ff C C"),
    ("mov:sq:ub",  (i(7), P),             "0b 06 0c 0700000000000000 08000000 C"),
    ("mov:sw:fs",  (i(1), D),             "0b 39 04 0100 C"),
    ("int",        (),                    "0c 80"),
    ("bl",         (i(HERE), D),          "0d 04 H C"),
    ("strcmp",     (D, i(2), D, i(3), D), "0e 20 82 C 0200000000000000 C 0300000000000000 C"),
    ("mod:sq",     (D, i(3), D),          "10 04 10 C 0300000000000000 C"),
    ("sqrt:fd",    (D, D),                "13 24 80 C C"),
]
# fmt: on


def by_hand(head: str, operands: tuple[Operand, ...]) -> Instruction:
    mnemonic, *suffixes = head.split(":")
    relative = "rel" in suffixes
    suffixes = [suffix for suffix in suffixes if suffix != "rel"]
    if mnemonic == "exit":
        return Instruction(HERE, 0, "exit", exit_mode=EXIT_SUFFIXES[suffixes[0]])
    condition = suffixes.pop(0) if mnemonic == "br" else None
    return Instruction(
        HERE, 0, mnemonic, tuple(suffixes), operands, condition,
        target=HERE if condition not in {None, "ji"} else None, relative=relative,
        number=0x80 if mnemonic == "int" else None,
    )  # fmt: skip


@pytest.mark.parametrize(("head", "operands", "written"), BY_HAND, ids=[c[0] for c in BY_HAND])
def test_layouts_written_by_hand(head: str, operands: tuple[Operand, ...], written: str) -> None:
    raw = written.replace("C", "1000000002000000").replace("H", "0000000004000000")
    assert encode(by_hand(head, operands)).hex() == raw.replace(" ", "")


def test_every_form_survives_the_round_trip(every_instruction: list[Instruction]) -> None:
    for instruction in every_instruction:
        raw = encode(instruction)
        decoded = decode(b"\xff" + raw + b"\xff", 1, HERE)
        assert decoded == replace(instruction, size_bytes=len(raw))
        assert encode(decoded) == raw
        modes = tuple(o.mode for o in instruction.operands)
        planned = encoded_size(
            instruction.mnemonic, instruction.types, modes, instruction.condition
        )
        assert planned == len(raw)


def test_every_cut_instruction_is_truncated() -> None:
    for head, operands, _ in BY_HAND:
        raw = encode(by_hand(head, operands))
        for length in range(len(raw)):
            with pytest.raises(DecodeError) as caught:
                decode(raw[:length], 0, HERE)
            assert caught.value.kind is DecodeFault.TRUNCATED
            assert caught.value.address == HERE


# fmt: off
REFUSED = [
    ("opcode 0f",                  "0f" + "00" * 40,   DecodeFault.OPCODE),
    ("opcode ff",                  "ff" + "00" * 40,   DecodeFault.OPCODE),
    ("condition 9",                "07 90" + "00" * 40, DecodeFault.CONDITION),
    ("mode 4",                     "01 10 00" + "00" * 40, DecodeFault.MODE),
    ("mode 7 of ji",               "07 1e" + "00" * 40, DecodeFault.MODE),
    ("and:fd",                     "08 24 90" + "00" * 40, DecodeFault.TYPE),
    ("sqrt:sq",                    "13 04 80" + "00" * 40, DecodeFault.TYPE),
    ("mov type 10",                "0b a0 24" + "00" * 40, DecodeFault.TYPE),
    ("constant destination",       "01 04 80" + "00" * 40, DecodeFault.DESTINATION),
    ("constant link",              "0d 00" + "00" * 40, DecodeFault.DESTINATION),
]
# fmt: on


@pytest.mark.parametrize(("written", "kind"), [c[1:] for c in REFUSED], ids=[c[0] for c in REFUSED])
def test_what_the_layouts_exclude_is_refused(written: str, kind: DecodeFault) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(bytes.fromhex(written), 0, HERE)
    assert caught.value.kind is kind


def test_padding_and_high_bytes_of_wide_constants_are_ignored() -> None:
    """Images from elsewhere may hold anything where the layout says nothing."""
    assert decode(bytes.fromhex("06 7f"), 0, HERE).exit_mode is ExitMode.ABORT
    wide = bytes.fromhex("07 7c 00 c8ffffffffffffff" + "00" * 8)
    assert decode(wide, 0, HERE).operands == (i(0xC8),)
