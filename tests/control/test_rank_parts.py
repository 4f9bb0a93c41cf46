"""What the parts of one rank say to each other: it takes no turn, and keeps nobody waiting."""

from __future__ import annotations

from typing import Any

from dvm_mpi import config
from dvm_mpi.control.messages import LeaseGranted, Message
from dvm_mpi.dsm.messages import LookupAnswered
from tests.control.test_rank import Computing, Ranks, lookup


class Asking(Computing):
    """A worker that asks its own home for a page whenever it hears something; or only at first."""

    def __init__(self, *, asks_on: bool) -> None:
        super().__init__()
        self.asks_on = asks_on

    def handle(self, event: Message) -> tuple[Any, ...]:
        self.heard.append(event)
        if len(self.heard) > 1 and not self.asks_on:
            return ()
        return ((("home", 1), lookup(1)),)


def test_a_page_of_its_own_home_takes_no_turn() -> None:
    worker = Asking(asks_on=False)
    ranks = Ranks(worker)
    ranks.say(0, LeaseGranted(0, 1, 2))
    ranks.turn()
    assert [type(message) for message in worker.heard] == [LeaseGranted, LookupAnswered]
    assert len(worker.slices) == 1


def test_parts_that_talk_on_and_on_do_not_keep_their_rank_from_the_others() -> None:
    worker = Asking(asks_on=True)
    ranks = Ranks(worker)
    ranks.say(0, LeaseGranted(0, 1, 2))
    ranks.turn()
    answers = len(worker.heard) - 1
    # Twice in a turn, and each answer comes a round after its question.
    assert 0 < answers <= config.OWN_ROUNDS
    ranks.say(0, LeaseGranted(0, 3, 4))
    ranks.turn()
    assert sum(isinstance(message, LeaseGranted) for message in worker.heard) == 2
    assert len(worker.slices) == 2
