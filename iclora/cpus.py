"""How many processors there are for this process."""

from __future__ import annotations

import os
import sys


def available_cpus() -> int:
    """Those it may run on: a container or ``taskset`` can give it fewer than the machine has."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
