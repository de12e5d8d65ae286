"""Number of processors available to this process."""

from __future__ import annotations

import os
import sys


def available_cpus() -> int:
    """Counts the CPUs of this process; a container or ``taskset`` may allow fewer than exist."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
