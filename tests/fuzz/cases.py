"""Every kind of case that `make fuzz` tries: a function of one integer that counts what it saw.

A kind returns the words of a finding, or None; what it raises is a finding as well. Nothing here
knows of time or processes.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Final

from dvm_mpi.disa.image import Image
from dvm_mpi.disa.image_file import load_image
from dvm_mpi.disa.verifier import VerificationErrors, find_errors
from dvm_mpi.engine.interface import End, TrapKind
from dvm_mpi.errors import SourceError
from tests.engine.agreement import ENGINES, chosen, disagreements
from tests.engine.hot_programs import hot_scene
from tests.engine.machine import EngineMaker
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

#: Kinds of cases, in turn.
KINDS: Final = ("programs", "hot", "reaching", "flat", "texts", "images")
#: One in so many programs on whole machines runs on the reference, too: it is slow.
REFERENCE_SHARE: Final = 10


def one_by_one(engines: Mapping[str, EngineMaker], seed: int) -> dict[str, EngineMaker]:
    """Return the first engine and one other: in an hour, more programs are tried with fewer."""
    rng = random.Random(seed)
    first, *others = engines
    return {name: engines[name] for name in (first, rng.choice(others))}


def compare(
    scene: Scene, seed: int, figures: Figures, engines: Mapping[str, EngineMaker] = ENGINES
) -> str | None:
    """Run a scene on all engines; return the smallest scene on which they differ, in words."""
    found, expected = disagreements(scene, engines)
    figures["programs"] += 1
    for ended in expected.get("ended", ()):
        figures["instructions"] += ended.row["instructions"]
        figures[f"ends: {_end_name(ended.row)}"] += 1
    if not found:
        return None
    smallest = shrunk(scene, lambda candidate: bool(disagreements(candidate, engines)[0]))
    return told(seed, smallest, *disagreements(smallest, engines))


def _end_name(row: dict[str, int]) -> str:
    if row["end"] == End.TRAP:
        return f"trap {TrapKind(row['trap']).name}"
    return End(row["end"]).name


def programs(engines: Mapping[str, EngineMaker], seed: int, figures: Figures) -> str | None:
    """Compare the engines on a random legal program."""
    return compare(random_scene(seed), seed, figures, engines)


def hot_programs(engines: Mapping[str, EngineMaker], seed: int, figures: Figures) -> str | None:
    """Compare the engines on a random program of loops."""
    return compare(hot_scene(seed), seed, figures, engines)


@cache
def guards() -> Guards:
    """Return the guards of this process; they stay until its end."""
    return Guards()


def reaching(engines: Mapping[str, EngineMaker], seed: int, figures: Figures) -> str | None:
    """Compare the engines on a program that reaches for the memory of its host."""
    scene = (hot_scene if seed // len(KINDS) % 2 else random_scene)(seed)
    finding = compare(aimed(scene, seed, guards().targets()), seed, figures, engines)
    guards().check()
    return finding


def run_image(image: Image, engine: str, seed: int, figures: Figures) -> str | None:
    """Run a program on a whole machine, and one in some also on the reference."""
    ended = run(image, engine)
    figures["programs"] += 1
    figures["instructions"] += ended.instructions
    figures[f"ends: {ended.how}"] += 1
    if seed % REFERENCE_SHARE or ended.how == ENDLESS:
        return None
    expected = run(image, "reference")
    if expected == ended:
        return None
    return f"the engines end differently:\n  reference: {expected}\n  {engine}: {ended}"


def flat_images(engine: str, seed: int, figures: Figures) -> str | None:
    """Run random bytes, random instructions, and damaged programs without lines."""
    figures["mutants: flat"] += 1
    return run_image(random_image(seed), engine, seed, figures)


def texts(engine: str, seed: int, figures: Figures) -> str | None:
    """Assemble a damaged text; run what is still a program."""
    name, text = damaged_text(seed)
    image = assembled(name, text)
    if image is None:
        figures["mutants: text, refused"] += 1
        return None
    return run_mutant("text", image, engine, seed, figures)


def image_files(folder: Path, engine: str, seed: int, figures: Figures) -> str | None:
    """Load a damaged image file; run what is still an image."""
    image = load_damaged(folder / "fuzz.dimg", damaged_file(seed))
    if image is None:
        figures["mutants: image, refused"] += 1
        return None
    return run_mutant("image", image, engine, seed, figures)


def run_mutant(kind: str, image: Image, engine: str, seed: int, figures: Figures) -> str | None:
    """Verify a program and run it; what the verifier refuses must end by itself as well."""
    findings = find_errors(image, operands=False)
    if findings:
        assert str(VerificationErrors(findings))
    figures[f"mutants: {kind}, {'refused by the verifier' if findings else 'good'}"] += 1
    return run_image(image, engine, seed, figures)


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


def kinds(
    folder: Path,
    engines: Sequence[str] = tuple(ENGINES),
    names: Sequence[str] = KINDS,
    *,
    in_turn: bool = False,
) -> dict[str, Kind]:
    """Return kinds by name; `folder` is for their files.

    The first of the engines is what the others are compared with, each time or `in_turn`. Programs
    on whole machines run on the last one.
    """
    makers, last = chosen(engines), engines[-1]

    def comparing(
        kind: Callable[[Mapping[str, EngineMaker], int, Figures], str | None],
    ) -> Kind:
        return lambda seed, figures: kind(
            one_by_one(makers, seed) if in_turn else makers, seed, figures
        )

    known: dict[str, Kind] = {
        "programs": comparing(programs),
        "hot": comparing(hot_programs),
        "reaching": comparing(reaching),
        "flat": partial(flat_images, last),
        "texts": partial(texts, last),
        "images": partial(image_files, folder, last),
    }
    assert known.keys() == set(KINDS)
    return {name: known[name] for name in names}
