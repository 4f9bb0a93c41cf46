"""The layouts, by hand from the DISA manual, and the round trip of every form."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

from dvm_mpi.disa.encoding import (
    DecodeError,
    DecodeFault,
    decode,
    encode,
    encoded_size,
    has_type_field,
)
from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.table import CONDITIONS, TABLE, Access, ExitMode, Form
from dvm_mpi.disa.types import BY_NAME, Mode

HERE = 0x4_0000_0000
CELL = 0x2_0000_0010

IMM, DIR, IND, DSP = Mode


def op(mode: Mode, value: int, displacement: int = 0) -> Operand:
    return Operand(mode, value, displacement)


def make(mnemonic: str, types: str = "", *operands: Operand, **more: object) -> Instruction:
    return Instruction(HERE, 0, mnemonic, tuple(types.split()), operands, **more)  # type: ignore[arg-type]


C = "1000000002000000"  # CELL, little-endian
# fmt: off
BY_HAND = [
    ("nop",                        make("nop"),                                                        "00"),
    ("add:sq (c), 8(c), c",        make("add", "sq", op(IND, CELL), op(DSP, CELL, 8), op(DIR, CELL)),  "01 09 90" + C + "08000000" + C + C),
    ("sub:uq $1, c, c",            make("sub", "uq", op(IMM, 1), op(DIR, CELL), op(DIR, CELL)),        "02 80 90 0100000000000000" + C + C),
    ("mul:fd $1.5, c, c",          make("mul", "fd", op(IMM, 0x3FF8 << 48), op(DIR, CELL), op(DIR, CELL)), "03 20 90 000000000000f83f" + C + C),
    ("div:sd $-2, c, c",           make("div", "sd", op(IMM, 0xFFFFFFFE), op(DIR, CELL), op(DIR, CELL)), "04 60 90 feffffff" + C + C),
    ("newr c, c, c, $16",          make("newr", "", op(DIR, CELL), op(DIR, CELL), op(DIR, CELL), op(IMM, 16)), "05 24 80" + C + C + C + "1000000000000000"),
    ("exit:c",                     make("exit", exit_mode=ExitMode.COMMIT),                            "06 00"),
    ("exit:a",                     make("exit", exit_mode=ExitMode.ABORT),                             "06 40"),
    ("exit:cd",                    make("exit", exit_mode=ExitMode.COMMIT_DELETE),                     "06 80"),
    ("exit:ad",                    make("exit", exit_mode=ExitMode.ABORT_DELETE),                      "06 c0"),
    ("br:j, absolute",             make("br", condition="j", target=HERE + 5),                         "07 00 0500000004000000"),
    ("br:j, relative",             make("br", condition="j", target=HERE - 1, relative=True),          "07 08 ffffffffffffffff"),
    ("br:ji c",                    make("br", "", op(DIR, CELL), condition="ji"),                      "07 12" + C),
    ("br:le:sq c, $5",             make("br", "sq", op(DIR, CELL), op(IMM, 5), condition="le", target=HERE), "07 20 40" + C + "0500000000000000 0000000004000000"),
    ("br:l:ub $200, c, rel",       make("br", "ub", op(IMM, 200), op(DIR, CELL), condition="l", target=HERE, relative=True), "07 3c 0c c800000000000000" + C + "0000000000000000"),
    ("br:z:fs c",                  make("br", "fs", op(DIR, CELL), condition="z", target=HERE),        "07 64 40" + C + "0000000004000000"),
    ("br:nz:sq (c), rel",          make("br", "sq", op(IND, CELL), condition="nz", target=HERE + 1, relative=True), "07 70 a0" + C + "0100000000000000"),
    ("br:sl c, c",                 make("br", "sq", op(DIR, CELL), op(DIR, CELL), condition="sl", target=HERE), "07 80 48" + C + C + "0000000004000000"),
    ("and:sb $-1, c, c",           make("and", "sb", op(IMM, 0xFF), op(DIR, CELL), op(DIR, CELL)),     "08 a0 90 ff" + C + C),
    ("mov $7:sq, -16(c):ub",       make("mov", "sq ub", op(IMM, 7), op(DSP, CELL, -16)),               "0b 06 0c 0700000000000000 f0ffffff" + C),
    ("mov $1:sw, c:fs",            make("mov", "sw fs", op(IMM, 1), op(DIR, CELL)),                    "0b 39 04 0100" + C),
    ("int 0x80",                   make("int", number=0x80),                                           "0c 80"),
    ("bl $f, c",                   make("bl", "", op(IMM, HERE), op(DIR, CELL)),                       "0d 04 0000000004000000" + C),
    ("strcmp c, $2, c, $3, c",     make("strcmp", "", op(DIR, CELL), op(IMM, 2), op(DIR, CELL), op(IMM, 3), op(DIR, CELL)), "0e 20 82" + C + "0200000000000000" + C + "0300000000000000" + C),
    ("mod:sq c, $3, c",            make("mod", "sq", op(DIR, CELL), op(IMM, 3), op(DIR, CELL)),        "10 04 10" + C + "0300000000000000" + C),
    ("sqrt:fd c, c",               make("sqrt", "fd", op(DIR, CELL), op(DIR, CELL)),                   "13 24 80" + C + C),
]
# fmt: on


@pytest.mark.parametrize(("instruction", "written"), [c[1:] for c in BY_HAND], ids=[c[0] for c in BY_HAND])
def test_layouts_written_by_hand(instruction: Instruction, written: str) -> None:
    assert encode(instruction).hex() == written.replace(" ", "")


def every_instruction() -> Iterator[Instruction]:
    """Each row × type × mode, with values that show a byte out of place."""
    for row in TABLE:
        for condition in CONDITIONS if row.form is Form.BRANCH else (None,):
            listed = row.operands if condition is None else condition.operands
            specs = [s for s in listed if s.access in {Access.READ, Access.WRITE}]
            allowed = sorted(row.types if condition is None else condition.types)
            name = None if condition is None else condition.name
            if not has_type_field(row.mnemonic, name):
                typings: list[tuple[str, ...]] = [()]
            else:
                count = 2 if row.form is Form.MOV else 1
                typings = list(itertools.product(allowed, repeat=count))
            modes = [[m for m in Mode if m or s.access is Access.READ] for s in specs]
            for types, chosen in itertools.product(typings, itertools.product(*modes)):
                yield from _variants(row.mnemonic, name, types, chosen, specs)


def _variants(mnemonic, condition, types, modes, specs):  # type: ignore[no-untyped-def]
    operands = []
    for i, (mode, spec) in enumerate(zip(modes, specs, strict=True)):
        width = spec.width_bytes or BY_NAME[types[min(i, len(types) - 1)]].width_bytes
        value = 0xF1F2F3F4F5F6F7F8 + i & (1 << 8 * width) - 1 if mode is IMM else 0x123456789A + i
        operands.append(Operand(mode, value, -0x7654321 * (mode is DSP)))
    if condition is not None and condition != "ji":
        for relative in (False, True):
            yield Instruction(HERE, 0, mnemonic, types, tuple(operands), condition,
                              target=HERE - 0x1234, relative=relative)  # fmt: skip
    elif mnemonic == "exit":
        for mode in ExitMode:
            yield Instruction(HERE, 0, mnemonic, exit_mode=mode)
    else:
        number = 0x80 if mnemonic == "int" else None
        yield Instruction(HERE, 0, mnemonic, types, tuple(operands), condition, number=number)


def test_every_form_survives_the_round_trip() -> None:
    count = 0
    for instruction in every_instruction():
        raw = encode(instruction)
        decoded = decode(b"\xff" + raw + b"\xff", 1, HERE)
        assert decoded.size_bytes == len(raw)
        assert encode(decoded) == raw
        assert (decoded.mnemonic, decoded.types, decoded.operands, decoded.condition) == (
            instruction.mnemonic, instruction.types, instruction.operands, instruction.condition)  # fmt: skip
        assert (decoded.target, decoded.relative, decoded.number, decoded.exit_mode) == (
            instruction.target, instruction.relative, instruction.number, instruction.exit_mode)  # fmt: skip
        modes = [o.mode for o in instruction.operands]
        planned = encoded_size(instruction.mnemonic, instruction.types, modes, instruction.condition)
        assert planned == len(raw)
        count += 1
    assert count > 5_000


def test_every_cut_instruction_is_truncated() -> None:
    for _, instruction, _ in BY_HAND:
        raw = encode(instruction)
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
    ("br:sl:fd",                   "07 82 48" + "00" * 40, DecodeFault.TYPE),
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
    assert decode(wide, 0, HERE).operands == (op(IMM, 0xC8),)
