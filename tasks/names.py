"""The house decorator: library functions as Prefect tasks.

Completion belongs to the artifact: a stage whose manifest is there is done, whoever asks. So no
task keeps results or caches in Prefect; a retry or a rerun finds the stages and goes on.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

import prefect
from prefect.cache_policies import NO_CACHE
from prefect.task_runners import ThreadPoolTaskRunner

stage_task = partial(
    prefect.task, cache_policy=NO_CACHE, persist_result=False, retries=2, retry_delay_seconds=5
)


def threads() -> Any:
    """A thread a core: decoding, CLIP and encoding release the interpreter's lock.

    Typed Any because ``flow`` asks for a runner of every kind of future, which none is.
    """
    return ThreadPoolTaskRunner(max_workers=os.cpu_count() or 1)
