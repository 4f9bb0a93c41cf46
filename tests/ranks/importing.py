"""Runs a command line of DVM and writes the names and files of all modules that it has imported.

`python importing.py FOLDER WORD ...`: into FOLDER/RANK.json. It imports next to nothing itself.
"""

import os
import runpy
import sys

folder, own = sys.argv[1], set(sys.modules)
sys.argv[1:2] = []
code: object = 0
try:
    runpy.run_module("dvm_mpi", run_name="__main__", alter_sys=True)
except SystemExit as ended:
    code = ended.code
found = {
    name: getattr(module, "__file__", None) or ""
    for name, module in list(sys.modules.items())
    if name not in own
}

import json  # noqa: E402
from pathlib import Path  # noqa: E402

from tests.ranks.launch import rank_in  # noqa: E402

Path(folder, f"{rank_in(os.environ) or 0}.json").write_text(json.dumps(found))
sys.exit(code)  # type: ignore[arg-type]
