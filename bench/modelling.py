"""`calibrate` with four ranks on four virtual hosts (`tests/cluster/`).

`make scaling-model HOSTS=1` runs it.

Messages cross network namespaces there, and pages travel within messages; all hosts share the
cores of this machine. Wants root.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.cluster.cluster import Cluster, Mpi, missing

TIMEOUT_S = 3_600


def main() -> int:
    """Calibrate; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.modelling", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, required=True, help="file of the costs")
    parser.add_argument("--repetitions", type=int, default=3)
    given = parser.parse_args()
    if lacking := missing():
        sys.exit(f"modelling: no virtual hosts here: {lacking}")
    with Cluster() as cluster:
        # Of fewer ranks than hosts the first hosts have one each.
        command = cluster.hosts_command(Mpi.MPICH, len(cluster.nodes), cluster.nodes, [])
        command[command.index("-n") + 1] = "{ranks}"
        ended = cluster.run(
            Mpi.MPICH.python, "-m", "dvm_mpi", "calibrate", "-o", str(given.output.absolute()),
            "--launcher", " ".join(command), "--between", "--data-plane", "message",
            "--repetitions", str(given.repetitions), timeout_s=TIMEOUT_S,
        )  # fmt: skip
    print(ended.out, end="")
    print(ended.err, end="", file=sys.stderr)
    return ended.code


if __name__ == "__main__":
    sys.exit(main())
