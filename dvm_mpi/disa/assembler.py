"""From DISA text to an image.

The way of a program: `expansion` feeds lines, `statement` takes them apart, `directives` and
`draft` say what they stand for, `sections` gives addresses, `assembly` gives values and bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from dvm_mpi.disa.assembly import Assembly
from dvm_mpi.disa.expansion import Expander, describe, read_source
from dvm_mpi.disa.image import Image
from dvm_mpi.errors import FileError


def assemble_text(text: str, name: str, defines: Mapping[str, str]) -> Image:
    """Assemble a text; `name` stands for its file in messages, and locates `.include`.

    Parameters
    ----------
    defines
        Values of `-D NAME=VALUE`, as written: constant expressions.

    Raises
    ------
    AssemblyErrors
        All errors of the program.
    """
    assembly = Assembly(name, defines)
    Expander(assembly).run(text, name)
    return assembly.finish()


def assemble_file(path: Path | str, defines: Mapping[str, str]) -> Image:
    """Assemble a file.

    Raises
    ------
    FileError
        The file cannot be read, or is no text.
    AssemblyErrors
        All errors of the program.
    """
    try:
        text = read_source(Path(path))
    except (OSError, ValueError) as error:
        what = f"{path}: the program cannot be read: {describe(error)}"
        raise FileError(f"{what}; check the file's name") from None
    return assemble_text(text, str(path), defines)
