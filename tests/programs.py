"""Programs that tests of several folders run."""

from __future__ import annotations

#: The line of `hot_counter` on which runners add, and the one on which they end.
ADDS_LINE, ENDS_LINE = 8, 9


def hot_counter(runner_count: int) -> str:
    """Return a program of which so many runners add 1 to `total`, so that some lose."""
    return f"""\
        .array  total, sq, 1
        .private i
        .text
main:   .runner count, heap=[($total, $8)]
        add     i, $1, i
        br:l    i, ${runner_count}, main
        exit:c
count:  add     total, $1, total
        exit:c
"""
