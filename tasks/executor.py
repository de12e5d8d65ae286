"""Runs the steps of a build as Prefect task runs.

A task run costs Prefect tens of milliseconds whatever it does, and a source takes five of them:
nothing beside a long film, and a tenth of the time of hundreds of short ones. So small sources are
batched, and a task run works on those of its batch one after another. The store decides what is
done: a batch that is retried finds the sources that it finished.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from iclora.pipeline.executor import Mapped, Step
from iclora.pipeline.progress import SharedReports
from iclora.store import Store
from schemas.job import BuildJob, BuildSetup
from tasks.environment import load_secrets_once
from tasks.prefect_defaults import stage_task

log = logging.getLogger("iclora.executor")

Item = TypeVar("Item")
Made = TypeVar("Made")

MAX_BATCH_SOURCES = 16
"""Maximum number of sources per batch. Five task runs take a fifth of a second, less than two
hundredths of sixteen films of a second each; more sources would save little and make progress
jump."""

MAX_BATCH_BYTES = 128 << 20
"""Maximum size of a batch. About two minutes of 1080p, which keep a core busy for half a minute:
beside that the task runs cost little, and so does what is lost with a machine."""

UNBATCHED = 8
"""Sources per core up to which each has task runs of its own: those take seconds then, and whoever
watches a small build sees every film."""

SHARES = 2
"""Batches that an equal share of the remaining sources per core is divided into. Batches shrink
towards the end, the last are single sources, and no core waits long for another's last batch."""


def batch_sizes(sizes: Sequence[int | None], cores: int) -> tuple[int, ...]:
    """Divides consecutive sources into batches.

    Args:
        sizes: bytes of each source; None is unknown, and such a source stands alone.
        cores: number of task runs that go on concurrently.

    Returns:
        The number of sources in each batch, in order.
    """
    batches: list[int] = []
    begin, is_small_build = 0, len(sizes) <= UNBATCHED * cores
    while remaining := len(sizes) - begin:
        most = min(MAX_BATCH_SOURCES, remaining // (SHARES * cores))
        count, free = 0, MAX_BATCH_BYTES
        for size in () if is_small_build else sizes[begin : begin + most]:
            free -= MAX_BATCH_BYTES + 1 if size is None else size
            if free < 0:
                break
            count += 1
        batches.append(max(1, count))
        begin += batches[-1]
    return tuple(batches)


class PrefectExecutor:
    """Runs each step as a task run per batch of sources, on the flow's task runner.

    Args:
        job: the build.
        batches: number of sources per batch, in order.
    """

    def __init__(self, job: BuildJob, batches: Sequence[int]) -> None:
        self._setup = job.setup
        self._starts = [sum(batches[:number]) for number in range(len(batches))]
        self._names = [
            [source.name.rpartition("@")[0] for source in job.sources[start : start + count]]
            for start, count in zip(self._starts, batches, strict=True)
        ]

    def map(self, step: Step, items: Sequence[Any] | Mapped, *shared: object) -> Mapped:
        """Starts a step over the sources of the build, or over what another step makes of them."""
        batches: Sequence[Any] = (
            items.batches
            if isinstance(items, Mapped)
            else [
                list(items[start : start + len(names)])
                for start, names in zip(self._starts, self._names, strict=True)
            ]
        )
        futures = [
            _task(step, names).submit(self._setup, step.name, names, batch, shared)
            for names, batch in zip(self._names, batches, strict=True)
        ]
        return Mapped(futures, self._starts)

    def run(self, step: Step, *inputs: object) -> Any:
        """Runs a step that needs the whole build as one task run."""
        return _task(step)(self._setup, step.name, [self._setup.name], [inputs[0]], inputs[1:])[0]


def _task(step: Step, names: Sequence[str] = ()) -> Any:
    """Returns the task that shows a step, on the sources of these names, in the UI."""
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    title = f"{names[0]}{more}" if names else ""
    return run_step.with_options(
        name=step.name,
        task_run_name=f"{step.name} {title}".strip().replace("{", "{{").replace("}", "}}"),
        tags=[step.lane] if step.lane else [],
    )


@stage_task(name="step")
def run_step(
    setup: BuildSetup,
    step: str,
    names: Sequence[str],
    items: Sequence[Any],
    shared: Sequence[Any],
) -> list[Any]:
    """Runs a step on a batch, in whatever process and on whatever machine this is.

    Args:
        setup: the build's.
        step: key of ``iclora.build.STEPS``.
        names: display names of the items.
        items: one call each.
        shared: values that every call is given after the item.
    """
    from iclora.build import STEPS, open_context  # late: it imports decoders and arrays

    load_secrets_once(setup)
    context = open_context(setup, SharedReports(Store(setup.store), setup.run))
    work = STEPS[step].work
    return each(names, lambda item: work(context, item, *shared), items)


def each(names: Sequence[str], work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """Calls ``work`` on each item; one that fails does not take the others of its batch along.

    Raises:
        Exception: the first error, when all items were tried; the log has every one.
    """
    made: list[Made] = []
    errors: list[Exception] = []
    for name, item in zip(names, items, strict=True):
        try:
            made.append(work(item))
        except Exception as error:  # whatever it is, it is raised once the others were tried
            if len(items) == 1:
                raise
            log.exception("%s failed", name)
            errors.append(error)
    if errors:
        raise errors[0]
    return made
