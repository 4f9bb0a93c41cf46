"""Tables of results: wrap-around, division, shifts, conversions, NaN; read by eye.

One program holds a whole table, so that both engines run each row in its own machine words.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import numpy as np

from dvm_mpi.disa.instruction import Instruction, Operand
from dvm_mpi.disa.types import BY_NAME, Mode
from dvm_mpi.layout import DATA_START
from tests.engine.machine import EngineMaker, Task, imm, op, program, run_tasks

INF = math.inf
NAN = 0x7FF8_0000_0000_0000
NAN_FS = 0x7FC0_0000
MIN64, MAX64 = -(1 << 63), (1 << 63) - 1
UMAX64 = (1 << 64) - 1

Value = int | float


def bits(type_name: str, value: Value) -> int:
    """Floats by value, unless an int is given: that is their bits."""
    width = BY_NAME[type_name].width_bytes
    if isinstance(value, float):
        data = struct.pack({8: "<d", 4: "<f"}[width], value)
        return int.from_bytes(data, "little")
    return value & (1 << 8 * width) - 1


def results(maker: EngineMaker, rows: Sequence[tuple[str, str, list[Value]]]) -> list[int]:
    """Run each row once with constants and once with cells; return the stored bits."""
    listing: list[Instruction] = []
    cell = 0x2_0000_1000
    here = DATA_START
    for mnemonic, types, values in rows:
        names = types.split()
        operands = [imm(bits(names[0], value)) for value in values]
        listing.append(op(mnemonic, *operands, Operand(Mode.DIRECT, here), types=types))
        cells = [Operand(Mode.DIRECT, cell + 8 * i) for i in range(len(values))]
        for place, value in zip(cells, values, strict=True):
            # The rest of the cell is poison.
            poisoned = bits(names[0], value) | (UMAX64 << 8 * BY_NAME[names[0]].width_bytes)
            listing.append(op("mov", imm(poisoned), place))
        listing.append(op(mnemonic, *cells, Operand(Mode.DIRECT, here + 8), types=types))
        here += 16
    (ended,), _ = run_tasks(maker, program(*listing, op("exit:c")), [Task()])
    found = []
    here = DATA_START
    for _, types, _ in rows:
        width = BY_NAME[types.split()[-1]].width_bytes
        pair = [
            int.from_bytes(bytes(ended.stored[a] for a in range(at, at + width)), "little")
            for at in (here, here + 8)
        ]
        assert pair[0] == pair[1], (types, pair)
        found.append(pair[0])
        here += 16
    return found


def check(maker: EngineMaker, table: Sequence[tuple[str, str, list[Value], Value]]) -> None:
    got = results(maker, [row[:3] for row in table])
    for (mnemonic, types, values, wanted), found in zip(table, got, strict=True):
        expected = bits(types.split()[-1], wanted)
        assert found == expected, f"{mnemonic}:{types} {values}: {found:#x}, not {expected:#x}"


# fmt: off
INTEGERS: list[tuple[str, str, list[Value], Value]] = [
    ("add", "sq", [MAX64, 1],           MIN64),
    ("add", "uq", [UMAX64, 2],          1),
    ("add", "sd", [0x7FFF_FFFF, 1],     -(1 << 31)),
    ("add", "ub", [255, 1],             0),
    ("add", "sb", [127, 1],             -128),
    ("sub", "ud", [0, 1],               0xFFFF_FFFF),
    ("sub", "sq", [MIN64, 1],           MAX64),
    ("mul", "sq", [MAX64, 2],           -2),
    ("mul", "uq", [1 << 63, 3],         1 << 63),
    ("mul", "sb", [-128, -128],         0),
    ("mul", "ud", [0xFFFF_FFFF, 0xFFFF_FFFF], 1),
    ("div", "sq", [-7, 2],              -3),
    ("div", "sq", [7, -2],              -3),
    ("div", "sq", [-7, -2],             3),
    ("div", "sq", [MIN64, -1],          MIN64),
    ("div", "sd", [-(1 << 31), -1],     -(1 << 31)),
    ("div", "sb", [-128, -1],           -128),
    ("div", "uq", [UMAX64, 10],         UMAX64 // 10),
    ("div", "uq", [UMAX64, UMAX64],     1),
    ("div", "uq", [5, UMAX64],          0),
    ("div", "ud", [0xFFFF_FFFF, 2],     0x7FFF_FFFF),
    ("div", "ub", [255, 16],            15),
    ("mod", "sq", [-7, 2],              -1),
    ("mod", "sq", [7, -2],              1),
    ("mod", "sq", [MIN64, -1],          0),
    ("mod", "sd", [-(1 << 31), -1],     0),
    ("mod", "uq", [UMAX64, 10],         UMAX64 % 10),
    ("mod", "ub", [255, 16],            15),
    ("and", "uq", [UMAX64, 0xF0],       0xF0),
    ("or",  "ub", [0x80, 0x01],         0x81),
    ("xor", "sd", [-1, 0x7FFF_FFFF],    -(1 << 31)),
    ("shl", "sq", [1, 63],              MIN64),
    ("shl", "sq", [1, 64],              1),
    ("shl", "sq", [1, -1],              MIN64),
    ("shl", "sd", [1, 33],              2),
    ("shl", "ub", [0xFF, 4],            0xF0),
    ("shl", "sb", [1, 7],               -128),
    ("shr", "sq", [-8, 1],              -4),
    ("shr", "sq", [MIN64, 63],          -1),
    ("shr", "sq", [-8, 64],             -8),
    ("shr", "uq", [UMAX64, 63],         1),
    ("shr", "sd", [-8, 33],             -4),
    ("shr", "ud", [0x8000_0000, 31],    1),
    ("shr", "sb", [-128, 7],            -1),
    ("shr", "ub", [128, 7],             1),
    ("min", "sq", [-1, 1],              -1),
    ("min", "uq", [UMAX64, 1],          1),
    ("max", "uq", [UMAX64, 1],          UMAX64),
    ("max", "ud", [0xFFFF_FFFF, 1],     0xFFFF_FFFF),
    ("max", "sb", [-1, 1],              1),
    ("abs", "sq", [MIN64],              MIN64),
    ("abs", "sq", [-5],                 5),
    ("abs", "sb", [-128],               -128),
    ("neg", "sq", [MIN64],              MIN64),
    ("neg", "uq", [1],                  UMAX64),
    ("neg", "ub", [1],                  255),
    ("not", "sq", [0],                  -1),
    ("not", "ub", [0x0F],               0xF0),
]

FLOATS: list[tuple[str, str, list[Value], Value]] = [
    ("add",   "fd", [0.1, 0.2],             0.30000000000000004),
    ("add",   "fs", [0.1, 0.2],             float(np.float32(0.1) + np.float32(0.2))),
    ("add",   "fs", [16777216.0, 1.0],      16777216.0),
    ("add",   "fd", [INF, -INF],            NAN),
    ("add",   "fd", [0x7FF0_0000_0000_0001, 1.0], NAN),
    ("add",   "fd", [0xFFF8_0000_0000_1234, 1.0], NAN),
    ("add",   "fs", [0xFFC0_0001, 1.0],     NAN_FS),
    ("sub",   "fd", [0.0, 0.0],             0.0),
    ("sub",   "fd", [-0.0, 0.0],            -0.0),
    ("mul",   "fd", [1e300, 1e300],         INF),
    ("mul",   "fs", [1e30, 1e30],           INF),
    ("mul",   "fs", [1e-30, 1e-30],         0.0),
    ("mul",   "fd", [0.0, INF],             NAN),
    ("mul",   "fd", [5e-324, 0.5],          0.0),
    ("div",   "fd", [1.0, 0.0],             INF),
    ("div",   "fd", [1.0, -0.0],            -INF),
    ("div",   "fd", [0.0, 0.0],             NAN),
    ("div",   "fs", [1.0, 3.0],             float(np.float32(1.0) / np.float32(3.0))),
    ("min",   "fd", [0.0, -0.0],            -0.0),
    ("min",   "fd", [-0.0, 0.0],            -0.0),
    ("max",   "fd", [-0.0, 0.0],            0.0),
    ("max",   "fs", [0.0, -0.0],            0.0),
    ("min",   "fd", [1.0, 0x7FF0_0000_0000_0001], NAN),
    ("max",   "fs", [0x7FC0_1234, 1.0],     NAN_FS),
    ("min",   "fs", [-INF, 1.0],            -INF),
    ("sqrt",  "fd", [2.0],                  math.sqrt(2.0)),
    ("sqrt",  "fs", [2.0],                  float(np.sqrt(np.float32(2.0)))),
    ("sqrt",  "fd", [-1.0],                 NAN),
    ("sqrt",  "fd", [-0.0],                 -0.0),
    ("floor", "fd", [-1.5],                 -2.0),
    ("floor", "fd", [-0.0],                 -0.0),
    ("floor", "fs", [1e9],                  float(np.float32(1e9))),
    ("floor", "fd", [0.99],                 0.0),
    ("floor", "fd", [INF],                  INF),
    ("floor", "fd", [0x7FF0_0000_0000_0001], NAN),
    ("exp",   "fd", [0.0],                  1.0),
    ("exp",   "fd", [710.0],                INF),
    ("exp",   "fd", [-746.0],               0.0),
    ("exp",   "fs", [1.0],                  float(np.float32(math.e))),
    ("exp",   "fs", [89.0],                 INF),
    ("exp",   "fd", [-INF],                 0.0),
    ("exp",   "fd", [0xFFF0_0000_0000_0001], NAN),
    ("log",   "fd", [1.0],                  0.0),
    ("log",   "fd", [0.0],                  -INF),
    ("log",   "fd", [-1.0],                 NAN),
    ("log",   "fd", [INF],                  INF),
    ("log",   "fs", [10.0],                 float(np.float32(math.log(10.0)))),
    ("abs",   "fd", [-0.0],                 0.0),
    ("abs",   "fd", [0xFFF0_0000_0000_1234], 0x7FF0_0000_0000_1234),
    ("neg",   "fd", [0x7FF0_0000_0000_1234], 0xFFF0_0000_0000_1234),
    ("neg",   "fs", [0xFF80_0001],          0x7F80_0001),
    ("neg",   "fs", [0.0],                  -0.0),
]

CONVERSIONS: list[tuple[str, str, list[Value], Value]] = [
    ("mov", "sb sq", [-1],                  -1),
    ("mov", "ub sq", [255],                 255),
    ("mov", "sw uq", [-2],                  UMAX64 - 1),
    ("mov", "uw sd", [0xFFFF],              0xFFFF),
    ("mov", "sd ud", [-1],                  0xFFFF_FFFF),
    ("mov", "sq sb", [0x1234_5680],         -128),
    ("mov", "uq uw", [UMAX64],              0xFFFF),
    ("mov", "fd fd", [0x7FF0_0000_0000_1234], 0x7FF0_0000_0000_1234),
    ("mov", "fs fs", [0xFF80_0001],         0xFF80_0001),
    ("mov", "fs fd", [0xFF80_0001],         NAN),
    ("mov", "fs fd", [0x7FC1_2345],         NAN),
    ("mov", "fd fs", [0xFFF8_0000_0000_1234], NAN_FS),
    ("mov", "fd fs", [1e300],               INF),
    ("mov", "fd fs", [0.1],                 float(np.float32(0.1))),
    ("mov", "fd fs", [1e-46],               0.0),
    ("mov", "fd fs", [1e-45],               0x0000_0001),
    ("mov", "fs fd", [0x0000_0001],         2.0**-149),
    ("mov", "fd sq", [1.9],                 1),
    ("mov", "fd sq", [-1.9],                -1),
    ("mov", "fd sq", [2.0**63],             MAX64),
    ("mov", "fd sq", [-(2.0**63)],          MIN64),
    ("mov", "fd sq", [-INF],                MIN64),
    ("mov", "fd sq", [0x7FF8_0000_0000_0000], 0),
    ("mov", "fd uq", [2.0**63],             1 << 63),
    ("mov", "fd uq", [2.0**64],             UMAX64),
    ("mov", "fd uq", [-1.0],                0),
    ("mov", "fd uq", [0.99],                0),
    ("mov", "fd uq", [0xFFF8_0000_0000_0000], 0),
    ("mov", "fd sd", [2.0**31],             (1 << 31) - 1),
    ("mov", "fd sd", [-(2.0**31) - 1],      -(1 << 31)),
    ("mov", "fd ud", [-0.5],                0),
    ("mov", "fd ud", [2.0**40],             0xFFFF_FFFF),
    ("mov", "fs sw", [1e9],                 0x7FFF),
    ("mov", "fs uw", [65535.9],             0xFFFF),
    ("mov", "fd sb", [-129.0],              -128),
    ("mov", "fd ub", [255.9],               255),
    ("mov", "fd ub", [256.0],               255),
    ("mov", "fs sq", [INF],                 MAX64),
    ("mov", "sq fd", [(1 << 53) + 1],       float(1 << 53)),
    ("mov", "sq fd", [(1 << 53) + 3],       float((1 << 53) + 4)),
    ("mov", "uq fd", [UMAX64],              2.0**64),
    ("mov", "uq fd", [(1 << 63) + 1025],    float((1 << 63) + 2048)),
    ("mov", "sq fs", [(1 << 24) + 1],       float(1 << 24)),
    ("mov", "sq fs", [(1 << 40) + (1 << 16) + 1], float((1 << 40) + (1 << 17))),
    ("mov", "sq fs", [-((1 << 40) + (1 << 16) + 1)], -float((1 << 40) + (1 << 17))),
    ("mov", "sq fs", [(1 << 62) + (1 << 38) + 1], float((1 << 62) + (1 << 39))),
    ("mov", "uq fs", [UMAX64],              2.0**64),
    ("mov", "uq fs", [(1 << 63) + (1 << 39) + 1], float((1 << 63) + (1 << 40))),
    ("mov", "ud fs", [0xFFFF_FFFF],         2.0**32),
    ("mov", "sb fd", [-128],                -128.0),
    ("mov", "uw fs", [65535],               65535.0),
    ("mov", "sq fd", [0],                   0.0),
]
# fmt: on


def test_integers(maker: EngineMaker) -> None:
    check(maker, INTEGERS)


def test_floats(maker: EngineMaker) -> None:
    check(maker, FLOATS)


def test_conversions(maker: EngineMaker) -> None:
    check(maker, CONVERSIONS)


# fmt: off
COMPARISONS: list[tuple[str, str, list[Value], bool]] = [
    ("l",  "sq", [-1, 0],         True),
    ("l",  "uq", [-1, 0],         False),
    ("le", "uq", [0, UMAX64],     True),
    ("le", "uq", [5, 5],          True),
    ("l",  "sb", [-128, 127],     True),
    ("l",  "ub", [128, 127],      False),
    ("le", "sd", [-1, -1],        True),
    ("l",  "ud", [0xFFFF_FFFF, 0], False),
    ("e",  "sb", [-1, 255],       True),
    ("ne", "sq", [1, 2],          True),
    ("z",  "sd", [0],             True),
    ("nz", "ub", [0],             False),
    ("e",  "fd", [0.0, -0.0],     True),
    ("e",  "fd", [NAN, NAN],      False),
    ("ne", "fd", [NAN, NAN],      True),
    ("l",  "fd", [NAN, 1.0],      False),
    ("le", "fd", [1.0, NAN],      False),
    ("le", "fs", [NAN_FS, 1.0],   False),
    ("ne", "fs", [NAN_FS, 1.0],   True),
    ("l",  "fs", [-INF, INF],     True),
    ("z",  "fd", [-0.0],          True),
    ("z",  "fd", [NAN],           False),
    ("nz", "fs", [NAN_FS],        True),
    ("nz", "fd", [5e-324],        True),
]
# fmt: on


def test_comparisons(maker: EngineMaker) -> None:
    for condition, type_name, values, wanted in COMPARISONS:
        operands = [imm(bits(type_name, value)) for value in values]
        branch = op(f"br:{condition}", *operands, types=type_name, target=2)
        image = program(branch, op("exit:a"), op("exit:c"))
        (ended,), _ = run_tasks(maker, image, [Task()])
        assert (ended.row["end"] == 0) is wanted, (condition, type_name, values)
