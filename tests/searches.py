"""How long the tests search for an input that breaks a property.

``make test`` tries the same few examples each time, so that it fails for a change and never by chance. ``make fuzz``
sets ``FUZZ_EXAMPLES`` and tries new ones, ten times as many at least.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))


def search(examples: int) -> settings:
    """Settings of a property that is tried with so many examples."""
    return settings(
        max_examples=max(10 * examples, EXAMPLES) if EXAMPLES else examples,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
