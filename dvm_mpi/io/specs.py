"""The options `--in NAME=FILE:DATASET` and `--out NAME=FILE:DATASET` (also `FILE.npy`).

Text becomes specs, specs are matched with the arrays that the program declares. No file is
opened here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dvm_mpi.disa.image import ArrayDeclaration
from dvm_mpi.errors import UsageError
from dvm_mpi.values import dataclass


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """One `--in` or `--out`; `dataset` is None for an `.npy` file, which holds one array."""

    option: str
    name: str
    path: Path
    dataset: str | None

    @property
    def place(self) -> str:
        """The option as it was given: where messages point to."""
        suffix = "" if self.dataset is None else f":{self.dataset}"
        return f"{self.option} {self.name}={self.path}{suffix}"

    @property
    def target(self) -> Path:
        """The file behind the path, links followed; `UsageError` if they go in a circle."""
        try:
            return self.path.resolve()
        except RuntimeError as error:
            raise UsageError(
                f"{self.place}: the links of '{self.path}' go in a circle; choose another name"
            ) from error


def parse_spec(text: str, option: str) -> ArraySpec:
    """Read `NAME=FILE:DATASET` or `NAME=FILE.npy`; `option` is `--in` or `--out`.

    The last colon divides, so FILE may hold colons and DATASET may not.

    Raises
    ------
    UsageError
        A part is missing; the text says which, with an example.
    """
    example = f"write it like {option} points=points.h5:points"
    name, equals, rest = text.partition("=")
    if not equals or not name or not rest:
        raise UsageError(f"{option} {text}: this is not NAME=FILE:DATASET; {example}")
    if rest.lower().endswith(".npy"):
        return ArraySpec(option, name, Path(rest), None)
    file, _, dataset = rest.rpartition(":")
    if file.lower().endswith(".npy"):
        raise UsageError(
            f"{option} {text}: an .npy file holds one array without a name; leave out ':{dataset}'"
        )
    if not file or not dataset.strip("/"):
        raise UsageError(
            f"{option} {text}: the dataset is missing after '{rest.rstrip(':')}'; {example}"
        )
    return ArraySpec(option, name, Path(file), dataset.strip("/"))


def match_declarations(
    specs: Sequence[ArraySpec], arrays: Mapping[str, ArrayDeclaration]
) -> list[tuple[ArraySpec, ArrayDeclaration]]:
    """Find the program's declaration of each spec, in the order of `specs`.

    Raises
    ------
    UsageError
        The program declares no such array, an input is given twice, or two outputs go to the
        same place.
    """
    seen: dict[tuple[str, ...], ArraySpec] = {}
    for spec in specs:
        if spec.name not in arrays:
            raise UsageError(f"{spec.place}: {_unknown_array(spec.name, arrays)}")
        target = (str(spec.target), spec.dataset or "")
        key = ("--in", spec.name) if spec.option == "--in" else (spec.option, *target)
        if key in seen:
            raise UsageError(
                f"{spec.place}: this collides with {seen[key].place}; leave one of them out"
            )
        seen[key] = spec
    return [(spec, arrays[spec.name]) for spec in specs]


def _unknown_array(name: str, arrays: Mapping[str, ArrayDeclaration]) -> str:
    if not arrays:
        return "the program declares no arrays; declare it with `.array NAME, TYPE, SHAPE`"
    listed = ", ".join(f"{a.name} ({a.type_name}, shape {a.shape})" for a in arrays.values())
    return f"the program declares no array '{name}'{did_you_mean(name, arrays)}; it has {listed}"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ` (did you mean 'x'?)` for the known name that is nearest, or nothing."""
    import difflib  # noqa: PLC0415, for a message only

    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
