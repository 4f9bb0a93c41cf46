"""Every kind of case that `make fuzz` tries: a function of one integer that counts what it saw.

A kind returns the words of a finding, or None; what it raises is a finding as well. Nothing here
knows of time or processes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Final

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import load_image
from dvm_mpi.disa.verifier import VerificationErrors, find_errors
from dvm_mpi.engine.interface import End, TrapKind
from dvm_mpi.errors import SourceError
from tests.engine.agreement import disagreements
from tests.engine.random_programs import Scene, random_scene
from tests.fuzz.generators import damaged_file, random_image
from tests.fuzz.guards import Guards, aimed
from tests.fuzz.machine_runs import ENDLESS, run
from tests.fuzz.shrinking import shrunk
from tests.fuzz.sources import assembled, damaged_text
from tests.fuzz.telling import told

#: What is counted, by name: `programs`, `instructions`, `mutants: …`, `traps: …`, `ends: …`.
Figures = Counter[str]
Kind = Callable[[int, Figures], str | None]

#: One in so many programs on whole machines runs on the reference, too: it is slow.
REFERENCE_SHARE: Final = 10


def compare(scene: Scene, seed: int, figures: Figures) -> str | None:
    """Run a scene on all engines; return the smallest scene on which they differ, in words."""
    found, expected = disagreements(scene)
    figures["programs"] += 1
    for ended in expected.get("ended", ()):
        figures["instructions"] += ended.row["instructions"]
        figures[f"ends: {_end_name(ended.row)}"] += 1
    if not found:
        return None
    smallest = shrunk(scene, lambda candidate: bool(disagreements(candidate)[0]))
    return told(seed, smallest, *disagreements(smallest))


def _end_name(row: dict[str, int]) -> str:
    if row["end"] == End.TRAP:
        return f"trap {TrapKind(row['trap']).name}"
    return End(row["end"]).name


def programs(seed: int, figures: Figures) -> str | None:
    """Compare the engines on a random legal program."""
    return compare(random_scene(seed), seed, figures)


@cache
def guards() -> Guards:
    """Return the guards of this process; they stay until its end."""
    return Guards()


def reaching(seed: int, figures: Figures) -> str | None:
    """Compare the engines on a program that reaches for the memory of its host."""
    finding = compare(aimed(seed, guards().targets()), seed, figures)
    guards().check()
    return finding


def run_image(image: Image, seed: int, figures: Figures) -> str | None:
    """Run a program on a whole machine, and one in some also on the reference."""
    ended = run(image, "interp")
    figures["programs"] += 1
    figures["instructions"] += ended.instructions
    figures[f"ends: {ended.how}"] += 1
    if seed % REFERENCE_SHARE or ended.how == ENDLESS:
        return None
    expected = run(image, "reference")
    if expected == ended:
        return None
    return f"the engines end differently:\n  reference: {expected}\n  interp: {ended}"


def flat_images(seed: int, figures: Figures) -> str | None:
    """Run random bytes, random instructions, and damaged programs without lines."""
    figures["mutants: flat"] += 1
    return run_image(random_image(seed), seed, figures)


def texts(seed: int, figures: Figures) -> str | None:
    """Assemble a damaged text; run what is still a program."""
    name, text = damaged_text(seed)
    image = assembled(name, text)
    if image is None:
        figures["mutants: text, refused"] += 1
        return None
    return run_mutant("text", image, seed, figures)


def image_files(folder: Path, seed: int, figures: Figures) -> str | None:
    """Load a damaged image file; run what is still an image."""
    image = load_damaged(folder / "fuzz.dimg", damaged_file(seed))
    if image is None:
        figures["mutants: image, refused"] += 1
        return None
    return run_mutant("image", image, seed, figures)


def run_mutant(kind: str, image: Image, seed: int, figures: Figures) -> str | None:
    """Verify a program and run it; what the verifier refuses must end by itself as well."""
    findings = find_errors(image, operands=False)
    if findings:
        assert str(VerificationErrors(findings))
    figures[f"mutants: {kind}, {'refused by the verifier' if findings else 'good'}"] += 1
    return run_image(image, seed, figures)


def load_damaged(path: Path, data: bytes) -> Image | None:
    """Load an image file; None if it was refused, in the words that all refusals have."""
    path.write_bytes(data)
    try:
        return load_image(path)
    except SourceError as refused:
        message = str(refused)
        assert message.startswith(f"{path}: not a good image: "), message
        assert message.endswith("; assemble it again"), message
        assert "\n" not in message, message
        return None


def kinds(folder: Path) -> dict[str, Kind]:
    """Return all kinds by name; `folder` is for their files."""
    return {
        "programs": programs,
        "reaching": reaching,
        "flat": flat_images,
        "texts": texts,
        "images": partial(image_files, folder),
    }
