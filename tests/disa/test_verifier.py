"""What is found wrong with an image before it runs, with the source line."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dvm_mpi.disa.assembler import assemble_text
from dvm_mpi.disa.image import Image
from dvm_mpi.disa.verifier import VerificationErrors, find_errors, verify
from dvm_mpi.errors import SourceError


def findings(text: str, *, operands: bool = True) -> list[str]:
    image = assemble_text(text, "t.dasm", {})
    return [str(f) for f in find_errors(image, operands=operands)]


def test_a_good_program_has_no_findings(varied: Image) -> None:
    verify(varied, operands=True)


def test_text_without_an_instruction_has_no_entry() -> None:
    """Data alone, as a forgotten `.data` leaves it; found by `make fuzz`."""
    (found,) = findings("here: .space 16")
    assert "the entry 0x400000000 is data in the text" in found


REMEDIES = {
    "branch": "branch to a label of an instruction",
    "entry": "name an instruction's label with .entry",
    "cell": "use 0x100000000 to below 0x400000000000, or '$' for a constant",
    "store": "the text is never writable: use .data or .bss",
}
MIDDLE = "leads into the middle of the instruction at"

# fmt: off
FOUND = [
    # program                         line    what
    ("nop\nbr:j 0x400000003",         ":2:", f"the branch to 0x400000003 {MIDDLE} t.dasm:2"),
    ("a: mov r1, r2\nbr:z r1, a + 3", ":2:", f"the branch to 0x400000003 {MIDDLE} t.dasm:1"),
    ("br:ji $0x400000001",            ":1:", f"the branch to 0x400000001 {MIDDLE} t.dasm:1"),
    ("br:j t\nt: .quad 5",            ":1:", "the branch to 0x40000000a leads to data in the text"),
    ("br:j 0x440000000",              ":1:", "the branch to 0x440000000 leads out of the text"),
    ("br:j end\nend:",                ":1:", "the branch to 0x40000000a leads out of the text"),
    ("bl $0x500000000, r1",           ":1:", "the branch to 0x500000000 leads out of the text"),
    (".byte 5\nnop",                  ":",   "the entry 0x400000000 is data in the text"),
    (".entry 0x440000000\nnop",       ":",   "the entry 0x440000000 is outside the text"),
    ("mov 5, r1",                     ":1:", "the cell at 0x5 lies outside the memory"),
    ("mov (0x3ffffffffffc), r1",      ":1:", "the cell at 0x3ffffffffffc lies outside the memory"),
    ("start: mov r1, start",          ":1:", "the store to 0x400000000 goes to the text"),
]
# fmt: on


@pytest.mark.parametrize(("text", "line", "what"), FOUND, ids=[f[0] for f in FOUND])
def test_findings(text: str, line: str, what: str) -> None:
    assert findings(text) == [f"t.dasm{line} error: {what}; {REMEDIES[what.split()[1]]}"]


def test_direct_cells_are_left_to_the_run_unless_asked_for() -> None:
    assert findings("mov 5, r1\nstart: mov r1, start", operands=False) == []


def test_the_last_bytes_of_memory_and_narrow_stores_are_good() -> None:
    assert findings("mov 0x3fffffffffff:ub, 0x100000000:ub") == []


def test_all_findings_are_told_together() -> None:
    image = assemble_text("br:j . + 1\nbr:j . + 1\nbr:j .", "t.dasm", {})
    with pytest.raises(VerificationErrors) as caught:
        verify(image)
    assert [f.address for f in caught.value.findings] == [0x4_0000_0000, 0x4_0000_000A]
    assert str(caught.value).count("error:") == 2
    assert isinstance(caught.value, SourceError)


def test_forged_instructions_are_found(varied: Image) -> None:
    assert varied.lines is not None
    start = int(varied.lines.addresses[3]) - 0x4_0000_0000
    text = varied.text[:start] + b"\xff" + varied.text[start + 1 :]
    (finding,) = find_errors(replace(varied, text=text), operands=True)
    assert "0xff is no opcode" in str(finding)


def test_instructions_that_overlap_are_found() -> None:
    image = assemble_text("mov r1, r2\nexit", "t.dasm", {})
    assert image.lines is not None
    addresses = np.array([0x4_0000_0000, 0x4_0000_000A], np.int64)
    forged = replace(image, lines=replace(image.lines, addresses=addresses))
    assert any("reaches over the next" in str(f) for f in find_errors(forged, operands=False))


def test_flat_images_are_left_to_the_run(varied: Image) -> None:
    verify(replace(varied, lines=None, text=b"\xff"), operands=True)
