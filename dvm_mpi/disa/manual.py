"""The tables of the instruction set's manual, made from the tables that the machine runs by.

`docs/isa.md` and `docs/assembler.md` hold them in marked sections, which `docs/generate.py` renews
and a test compares.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dvm_mpi import layout
from dvm_mpi.disa.directives import DIRECTIVES
from dvm_mpi.disa.expansion import EXPANSIONS
from dvm_mpi.disa.statement import RELATIVE_SUFFIX
from dvm_mpi.disa.symbols import MACHINE_CELLS
from dvm_mpi.disa.table import (
    CONDITIONS,
    EXIT_SUFFIXES,
    SWAPPED_CONDITIONS,
    TABLE,
    ExitMode,
    Form,
    Row,
    Shape,
)
from dvm_mpi.disa.types import MOVABLE, TYPES

_EXIT_SUMMARIES: Final = {
    ExitMode.COMMIT: "commit",
    ExitMode.ABORT: "abort",
    ExitMode.COMMIT_DELETE: "commit, and delete the watcher that this is an instance of",
    ExitMode.ABORT_DELETE: "abort, and delete the watcher that this is an instance of",
}


def sections() -> dict[str, str]:
    """Return the generated sections by name, as Markdown without the marks around them."""
    return {
        "types": _types(),
        "instructions": _instructions(),
        "conditions": _conditions(),
        "exits": _exits(),
        "encodings": _encodings(),
        "directives": _directives(),
        "cells": _cells(),
    }


# --- tables -----------------------------------------------------------------------------------
def _table(heads: Sequence[str], rows: Iterator[Sequence[str]]) -> str:
    """Return a Markdown table; bars inside cells are escaped."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def _code(value: int | None) -> str:
    return "–" if value is None else str(value)


def _types() -> str:
    heads = ("type", "meaning", "bytes", "arithmetic code", "`mov` code")
    return _table(
        heads,
        (
            (
                f"`{t.name}`",
                t.summary,
                str(t.width_bytes),
                _code(t.arithmetic_code),
                _code(t.mov_code),
            )
            for t in TYPES
        ),
    )


def _type_names(names: frozenset[str]) -> str:
    if not names:
        return "–"
    if names == MOVABLE:
        return "any"
    return " ".join(t.name for t in TYPES if t.name in names)


def _text(row: Row) -> str:
    """Return how an instruction is written."""
    operands = [spec.name for spec in row.operands]
    if row.form is Form.MOV:
        operands = [f"{name}:T" for name in operands]
    elif row.types:
        return f"`{row.mnemonic}:T {', '.join(operands)}`"
    return f"`{row.mnemonic} {', '.join(operands)}`".replace(" `", "`")


def _instructions() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for row in TABLE:
            types, text = _type_names(row.types), _text(row)
            if row.form is Form.BRANCH:
                text = "`br:CONDITION:T …`"
            elif row.form is Form.EXIT:
                text = "`exit:MODE`"
            flags = ", ".join(sorted(flag.value for flag in row.flags)) or "–"
            yield text, f"{row.code:02X}", types, row.summary, flags

    return _table(("text", "opcode", "types", "effect", "notes"), rows())


def _conditions() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for condition in CONDITIONS:
            operands = ", ".join(spec.name for spec in condition.operands)
            suffix = ":T" if "T:" in condition.shape.value else ""
            text = f"`br:{condition.name}{suffix} {operands}`"
            yield text, str(condition.code), _type_names(condition.types), condition.summary
        for name, swapped in SWAPPED_CONDITIONS.items():
            text = f"`br:{name}:T a, b, target`"
            yield text, "–", "as its twin", f"written as `br:{swapped}:T b, a, target`"

    table = _table(("text", "code", "types", "jumps if"), rows())
    note = f"A target followed by `:{RELATIVE_SUFFIX}` is encoded relative to the branch.\n"
    return f"{table}\n{note}"


def _exits() -> str:
    rows = (
        (f"`exit:{suffix}`", str(int(mode)), _EXIT_SUMMARIES[mode])
        for suffix, mode in EXIT_SUFFIXES.items()
    )
    return _table(("text", "mode", "effect"), rows)


def _encodings() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for form in Form:
            if form is Form.BRANCH:
                continue
            names = " ".join(f"`{row.mnemonic}`" for row in TABLE if row.form is form)
            count = max(
                len(row.operands) if form is not Form.BYTE else 0
                for row in TABLE
                if row.form is form
            )
            operands = " | " + " ".join(f"o{i}" for i in range(count)) if count else ""
            yield names, f"`{form.value}{operands}`"
        code = next(row.code for row in TABLE if row.form is Form.BRANCH)
        for shape in Shape:
            names = " ".join(f"`br:{c.name}`" for c in CONDITIONS if c.shape is shape)
            yield names, f"`{code:02X} | cc:4 {shape.value}`"

    return _table(("instructions", "bytes"), rows())


# --- the text format --------------------------------------------------------------------------
def _directives() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for directive in DIRECTIVES.values():
            yield f"`{directive.synopsis}`", directive.summary
        for synopsis, summary in EXPANSIONS:
            yield f"`{synopsis}`", summary

    return _table(("directive", "effect"), rows())


def _cells() -> str:
    def rows() -> Iterator[Sequence[str]]:
        for name, address in MACHINE_CELLS.items():
            yield f"`{name}`", f"`{address:#x}`"
        for i, name in enumerate(layout.REGISTER_NAMES):
            yield f"`{name}`", f"`{layout.CELL_REGISTERS + layout.WORD_BYTES * i:#x}`"

    return _table(("name", "address"), rows())
