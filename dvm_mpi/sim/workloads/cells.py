"""Truths of workloads whose runners load and store a few cells: counters, accounts, lists."""

from __future__ import annotations

from collections import Counter

from dvm_mpi.sim.workloads.workload import RunEnd, differs, unless


def counters(end: RunEnd) -> list[str]:
    """No increment is lost, and each is printed once."""
    runners = end.defines["RUNNERS"]
    expected = [len(range(cell, runners, 3)) for cell in range(3)]
    printed = Counter(end.console)
    return [
        *differs("counters", end.words("counters", 3), expected),
        *differs("letters printed", [printed[letter] for letter in b"abc"], expected),
        *differs("length of the console", len(end.console), runners),
    ]


def bank(end: RunEnd) -> list[str]:
    """The sum stays, no account falls below zero, and a refused transfer prints nothing."""
    accounts = end.words("accounts", 8)
    return [
        *differs("sum of the accounts", sum(accounts), 800),
        *unless(min(accounts) >= 0, f"an account is below zero: {accounts}"),
        *differs("letters printed", set(end.console) - set(b"+"), set()),
    ]


def append(end: RunEnd) -> list[str]:
    """Every runner's number is in the list once."""
    runners = end.defines["RUNNERS"]
    return [
        *differs("length", end.word("length"), runners),
        *differs("list, sorted", sorted(end.words("list", runners)), list(range(1, runners + 1))),
    ]


def neighbours(end: RunEnd) -> list[str]:
    """Every runner's byte, word and double are there, and nobody ran twice."""
    runners = end.defines["RUNNERS"]
    numbers = range(1, runners + 1)
    held = b"".join(word.to_bytes(8, "little", signed=True) for word in end.words("bytes", 8))
    pairs = b"".join(word.to_bytes(8, "little", signed=True) for word in end.words("words", 16))
    return [
        *differs("retries", end.retries, 0),
        *differs("bytes", held[:runners], bytes(numbers)),
        *differs("words", pairs[: 2 * runners], b"".join(n.to_bytes(2, "little") for n in numbers)),
        *differs("quads", end.words("quads", runners), [0x0101010101010101 * n for n in numbers]),
    ]


def one_page(end: RunEnd) -> list[str]:
    """Every runner's number is there, beside its neighbour's or zero, and nobody ran twice."""
    runners = end.defines["RUNNERS"]
    words = end.words("words", runners)
    seen = [word >> 32 for word in words if word >> 32]
    return [
        *differs("retries", end.retries, 0),
        *differs("numbers", [word & 0xFFFFFFFF for word in words], list(range(1, runners + 1))),
        *differs("neighbours", seen, [i or runners for i in range(runners) if words[i] >> 32]),
    ]


def large(end: RunEnd) -> list[str]:
    """No increment is lost, and the areas hold what their runners filled in."""
    runners, pages = end.defines["RUNNERS"], end.defines["PAGES"]
    found = differs("shared", end.word("shared"), runners)
    for runner in range(runners):
        start = end.image.symbols["areas"] + 100 + runner * pages * 4096
        dense = [end.word_at(start + 8 * i) for i in range(75)]
        wide = [end.word_at(start + 600 + 64 * i) & 0xFFFF for i in range(3)]
        found += differs(f"area {runner}, dense", dense, [runner] * 75)
        found += differs(f"area {runner}, wide", wide, [runner] * 3)
    return found


def trap(end: RunEnd) -> list[str]:
    """The runner that finds 5 ends the program; what came before it stays."""
    return [
        *unless(end.failure is not None, "the program has ended without a trap"),
        *differs("console", end.console, b"01234"),
        *differs("counter", end.word("counter"), 5),
    ]


def stale_trap(end: RunEnd) -> list[str]:
    """No trap was made on a number that was no longer there, and no increment is lost."""
    fatal = end.defines["FATAL"]
    expected = end.defines["RUNNERS"] if end.failure is None else fatal
    return differs("counter", end.word("counter"), expected)
