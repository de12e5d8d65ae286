"""Processors: those of this process, not those of the machine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SAY = "from iclora.cpus import available_cpus; print(available_cpus())"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a process cannot be bound to cores")
def test_only_those_count_that_the_process_may_run_on():
    mine = sorted(os.sched_getaffinity(0))

    def said(allowed):
        given = ",".join(map(str, allowed))
        program = f"import os; os.sched_setaffinity(0, [{given}]); {SAY}"
        ended = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        )
        return int(ended.stdout)

    assert said(mine[:1]) == 1
    assert said(mine) == len(mine)
