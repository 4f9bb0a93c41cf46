"""Which attempts of a run are meant: by number, by the runner's id, or by where they begin."""

from __future__ import annotations

from dvm_mpi.disa.image import Image
from dvm_mpi.errors import UsageError
from dvm_mpi.io.specs import did_you_mean
from dvm_mpi.sim.history import GivenAttempt
from dvm_mpi.values import dataclass, field


@dataclass(slots=True)
class Selection:
    """Attempts that are meant; to be asked about each one in the order of dispatch.

    `id` means all attempts of one runner (of a watcher: of all its instances), `entry` those that
    begin at one address, of these only the `nth`, from 1, unless that is 0.
    """

    id: int = -1
    entry: int = -1
    nth: int = 0
    _seen: int = field(default=0, repr=False)

    def takes(self, given: GivenAttempt) -> bool:
        """Say whether an attempt is meant."""
        if given.id != self.id and given.entry != self.entry:
            return False
        self._seen += 1
        return self.nth in {0, self._seen}


def parse_selection(text: str, option: str, image: Image) -> Selection:
    """Read `ID`, `LABEL` or `LABEL:K`.

    Raises
    ------
    UsageError
        The program has no such label, or the text is none of these.
    """
    try:
        return Selection(id=int(text, 0))
    except ValueError:
        pass
    label, colon, count = text.partition(":")
    if label not in image.symbols:
        raise UsageError(
            f"{option} {text}: the program has no label '{label}'"
            f"{did_you_mean(label, image.symbols)}; give a runner's id, LABEL or LABEL:K"
        )
    nth = int(count) if count.isascii() and count.isdigit() else 0
    if colon and not nth:
        raise UsageError(
            f"{option} {text}: '{count}' is not a number from 1; write it like {label}:3 for the "
            "third attempt that begins there"
        )
    return Selection(entry=image.symbols[label], nth=nth)
