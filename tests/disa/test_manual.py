"""The generated tables hold every row."""

from __future__ import annotations

from dvm_mpi.disa.directives import DIRECTIVES
from dvm_mpi.disa.manual import sections
from dvm_mpi.disa.table import CONDITIONS, TABLE
from dvm_mpi.disa.types import TYPES


def test_every_row_is_in_its_table() -> None:
    tables = sections()
    for row in TABLE:
        assert f"| `{row.mnemonic}" in tables["instructions"]
        assert f"`{row.mnemonic}" in tables["encodings"] or row.mnemonic == "br"
    for condition in CONDITIONS:
        assert f"| `br:{condition.name}" in tables["conditions"]
        assert f"`br:{condition.name}`" in tables["encodings"]
    for type_ in TYPES:
        assert f"| `{type_.name}` |" in tables["types"]
    for name in DIRECTIVES:
        assert f"| `{name}" in tables["directives"]


def test_tables_have_as_many_cells_as_heads() -> None:
    for body in sections().values():
        rows = [line for line in body.splitlines() if line.startswith("|")]
        assert len({line.replace("\\|", "").count("|") for line in rows}) == 1
