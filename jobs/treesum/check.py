"""Check the sum that the tree prints, with the closed formula.

Reads the job's output from standard input:

    python -m dvm_mpi jobs/treesum/treesum.dasm | python -m jobs.treesum.check
"""

from __future__ import annotations

import argparse
import sys

from jobs.lib.checking import printed_number


def expected_sum(count: int) -> int:
    """Return 0 + 1 + ... + (count - 1)."""
    return count * (count - 1) // 2


def main() -> None:
    """Run as a command; the exit status is 0 only if the sum is right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=20_480, help="-D N")
    options = parser.parse_args()

    printed, expected = printed_number(), expected_sum(options.count)
    if printed != expected:
        sys.exit(f"check: the tree's sum of {options.count} integers is {printed}, not {expected}")
    print(f"check: the sum of {options.count} integers is {expected}, as the formula says")


if __name__ == "__main__":
    main()
