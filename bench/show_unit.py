"""Show what the translator makes of the code around a label: `python -m bench.show_unit`.

For whoever asks why a loop is as fast as it is: the unit's instructions, LLVM's intermediate
representation before or after its passes, or assembly.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dvm_mpi.disa.assembler import assemble_file
from dvm_mpi.engine.predecode import Program
from dvm_mpi.engine.translate import intermediate
from dvm_mpi.engine.translation import emission
from dvm_mpi.engine.translation.code import Code
from dvm_mpi.engine.translation.units import Chooser
from dvm_mpi.errors import DvmError


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("program", type=Path)
    parser.add_argument("label", help="where the time goes, as in the symbols: 'part.next_point'")
    parser.add_argument("--form", choices=("raw", "optimised", "assembly"), default="assembly")
    parser.add_argument("--level", type=int, choices=range(4), default=3)
    parser.add_argument("-D", dest="defines", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--notes-loads", action="store_true", help="for --isolation serializable")
    given = parser.parse_args()
    try:
        image = assemble_file(given.program, dict(d.split("=", 1) for d in given.defines))
    except DvmError as error:
        sys.exit(error.message)
    if given.label not in image.symbols:
        sys.exit(f"no label {given.label!r}; there are: {', '.join(sorted(image.symbols))}")
    code = Code(image, Program(image).static_pages)
    unit = Chooser(code, image).around(image.symbols[given.label])
    if unit is None:
        sys.exit(f"nothing around {given.label!r} is translated")
    text = intermediate(code, unit, notes_loads=given.notes_loads)
    if given.form == "optimised":
        text = str(emission.optimised(text, given.level))
    elif given.form == "assembly":
        text = emission.assembly_of(text, given.level)
    print(f"; {len(unit.addresses)} instructions, {len(unit.entries)} entries\n{text}")


if __name__ == "__main__":
    main()
