"""How long tests wait for what must come.

A machine may be five times slower than ours, shared with others, and have nothing compiled yet: a
wait that ends there says nothing of the machine under test. So nobody waits for less than this,
and no test asserts how long something took; what never comes costs minutes, once.
"""

from __future__ import annotations

from typing import Final

#: Seconds until a wait is given up; `timeout` in setup.cfg, of a whole test, is longer.
PATIENCE_S: Final = 600.0
