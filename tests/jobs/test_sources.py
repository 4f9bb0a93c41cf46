"""What holds for the text of every job."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dvm_mpi.disa.assembler import assemble_file, assemble_text
from dvm_mpi.disa.disassembler import disassemble
from dvm_mpi.disa.verifier import verify
from tests.jobs.machine import JOBS, source_of

NAMES = ["hello", "kmeans", "matmul", "primes", "stencil", "treesum", "vectoradd"]
LINE_LENGTH = 100


def test_every_job_is_listed() -> None:
    assert sorted(path.stem for path in JOBS.glob("*/*.dasm") if path.parent.name != "lib") == NAMES
    index = (JOBS / "README.md").read_text(encoding="utf-8")
    assert all(f"[{name}]({name}/)" in index for name in NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_verifies(name: str) -> None:
    verify(assemble_file(source_of(name), {}))


@pytest.mark.parametrize("name", NAMES)
def test_disassembly_assembles_to_the_same_image(name: str) -> None:
    image = assemble_file(source_of(name), {})
    again = assemble_text(disassemble(image), f"{name}.listing", {})
    assert again.text == image.text
    assert again.entry == image.entry
    assert again.sections == image.sections
    assert again.arrays == image.arrays
    assert again.reserved.tolist() == image.reserved.tolist()


@pytest.mark.parametrize("name", NAMES)
def test_readme_tells_every_parameter_with_its_default(name: str) -> None:
    """The tables of the READMEs are written by hand; this keeps them in step with the text."""
    source = source_of(name).read_text(encoding="utf-8")
    readme = (JOBS / name / "README.md").read_text(encoding="utf-8")
    defaults = re.findall(r"^\s*\.default (\w+), ([^;\n]+?)\s*(?:;|$)", source, re.MULTILINE)
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([^|]+) \|", readme, re.MULTILINE)
    told = {
        name.strip("`"): value
        for names, values in rows
        for name, value in zip(names.split(", "), values.split(", "), strict=True)
    }
    assert told == dict(defaults)


@pytest.mark.parametrize("path", sorted(JOBS.rglob("*.dasm")), ids=lambda p: p.name)
def test_text_is_tidy(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        assert len(line) <= LINE_LENGTH, f"{path}:{number}"
        assert line == line.rstrip(), f"{path}:{number}"
        assert "\t" not in line, f"{path}:{number}"
