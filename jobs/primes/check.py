"""Check the count that the prime checker prints, with a sieve.

Reads the job's output from standard input:

    python -m dvm_mpi jobs/primes/primes.dasm | python -m jobs.primes.check
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from jobs.lib.checking import printed_number


def count_primes(limit: int) -> int:
    """Count the primes below `limit` (sieve of Eratosthenes: nothing like the job's way)."""
    if limit <= 2:
        return 0
    is_prime = np.ones(limit, bool)
    is_prime[:2] = False
    for divisor in range(2, int(limit**0.5) + 1):
        if is_prime[divisor]:
            is_prime[divisor * divisor :: divisor] = False
    return int(is_prime.sum())


def main() -> None:
    """Run as a command; the exit status is 0 only if the count is right."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--limit", type=int, default=2_000_000, help="-D LIMIT")
    options = parser.parse_args()

    printed, expected = printed_number(), count_primes(options.limit)
    if printed != expected:
        sys.exit(
            f"check: the job counts {printed} primes below {options.limit}, not {expected}; "
            "a job with -D LIMIT needs the same --limit here"
        )
    print(f"check: {expected} primes below {options.limit}, as the sieve says")


if __name__ == "__main__":
    main()
