"""A rank on a host that shares no folder for compiled code with others; arguments are dvm_mpi's.

Each host has a folder in its own `/dev/shm`. What everybody compiles is there beforehand, as far as
the common folder has it; the program's translated code is not. What comes from other hosts is
waited for as long as it takes. At the end `native-HOST-PID.json` tells in the present folder what
this rank executed, and what lies in its host's folders of units.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

OWN: Final = Path("/dev/shm/dvm-apart")
_UNITS: Final = "dvm-units-"
_FOLDER: Final = "NUMBA_CACHE_DIR"


def settle_apart(common: Path) -> None:
    """Make the host's folder, with links to what is compiled for all programs."""
    OWN.mkdir(mode=0o700, exist_ok=True)
    for path in common.glob("dvm-*"):
        if not path.name.startswith(_UNITS):
            # The other ranks of the host do the same.
            with suppress(FileExistsError):
                (OWN / path.name).symlink_to(path)
    os.environ[_FOLDER] = str(OWN)


def main(arguments: list[str]) -> int:
    """Run as a rank."""
    from dvm_mpi.native import store  # noqa: PLC0415, it remembers the folder

    common = store.choose_folder().path
    store._choose_folder.cache_clear()
    settle_apart(common)
    assert store.choose_folder().path == OWN

    from dvm_mpi import cli, config  # noqa: PLC0415
    from dvm_mpi.engine import native_code  # noqa: PLC0415

    config.UNITS_SENT_S = 3_600.0  # type: ignore[misc]
    close = native_code.NativeCode.close

    def told(native: native_code.NativeCode) -> None:
        files = sorted(path.name for path in OWN.glob(f"{_UNITS}*/*"))
        row: dict[str, Any] = {**native.figures().row(), "files": files}
        Path(f"native-{os.uname().nodename}-{os.getpid()}.json").write_text(json.dumps(row))
        close(native)

    native_code.NativeCode.close = told  # type: ignore[assignment, method-assign]
    return cli.main(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
