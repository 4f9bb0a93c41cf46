"""How many examples of a property are tried: a few by default, many where somebody asks."""

from __future__ import annotations

from typing import Final

from hypothesis import settings

#: Examples that Hypothesis tries where nothing else is said; profiles are measured by it.
USUAL_EXAMPLES: Final = 100


def tried(examples: int, steps: int = 50) -> settings:
    """Return settings for `examples` examples, more of them under a profile that wants more.

    `steps`: the operations of one example, where the property is a state machine.
    """
    profile = settings.default
    assert profile is not None
    wanted = max(examples * profile.max_examples // USUAL_EXAMPLES, 1)
    return settings(max_examples=wanted, stateful_step_count=steps)
