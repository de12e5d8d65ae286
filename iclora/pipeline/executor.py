"""Runs the steps of a pipeline over many items; the pipeline itself does not know where.

A pipeline is written once, over the ``Executor`` protocol. ``ThreadExecutor`` runs it in this
process; ``tasks.executor`` runs it as Prefect task runs, on threads or on a Ray cluster. Only
references travel between steps, so memory grows with the number of workers and not of items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, NamedTuple, Protocol, Self, cast


class Step(NamedTuple):
    """One step of a pipeline.

    ``work`` takes the pipeline's context, one item and the values that are shared by all items.
    """

    name: str
    """Name of the step in logs, in the UI and for workers in other processes."""

    work: Callable[..., Any]
    lane: str = ""
    """Resource that the step waits for, such as ``captioner``; empty is a core."""


class Pending(Protocol):
    """Future of the results of one batch: of this process, or Prefect's."""

    def result(self) -> list[Any]:
        """Waits; raises the error of the work."""
        ...

    def add_done_callback(self, _fn: Callable[[Any], object], /) -> None:
        """Calls the function with the future when it is done."""
        ...


class Mapped(NamedTuple):
    """Results of one step: a future per batch of consecutive items, in the order of the items."""

    batches: Sequence[Pending]
    starts: Sequence[int]
    """Position of the first item of each batch."""

    def results(self) -> list[Any]:
        """Waits for all items; raises the first error in their order."""
        return [result for batch in self.batches for result in batch.result()]


class Executor(Protocol):
    """Runs steps, somewhere."""

    def map(self, step: Step, items: Sequence[Any] | Mapped, *shared: object) -> Mapped:
        """Starts a step over many items.

        An item that another step has yet to make is waited for; items flow from step to step
        independently of each other.

        Args:
            step: what to do.
            items: one call each.
            shared: values that every call is given after the item.
        """
        ...

    def run(self, step: Step, *inputs: object) -> Any:
        """Runs a step that needs the whole pipeline at once, and waits for it."""
        ...


def as_completed(*mapped: Mapped) -> Iterator[tuple[int, list[Any]]]:
    """Yields batches in the order in which they are done; raises the first error.

    Yields:
        The position of a batch's first item, and the batch's results.
    """
    done: SimpleQueue[tuple[int, Pending]] = SimpleQueue()
    count = 0
    for results in mapped:
        for start, batch in zip(results.starts, results.batches, strict=True):
            batch.add_done_callback(lambda _, pair=(start, batch): done.put(pair))
            count += 1
    for _ in range(count):
        start, batch = done.get()
        yield start, batch.result()


class ThreadExecutor:
    """Runs every item on its own, on threads of this process.

    Threads suffice because decoding, CLIP and encoding release the interpreter's lock.

    Args:
        context: first argument of every step.
        workers: threads of the default lane.
        lanes: threads of the other lanes, by name.
    """

    def __init__(self, context: object, workers: int, lanes: Mapping[str, int]) -> None:
        self._context = context
        self._pools = {
            lane: ThreadPoolExecutor(count, f"iclora-{lane or 'worker'}")
            for lane, count in {"": workers, **lanes}.items()
        }
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Cancels what has not begun and waits for the rest."""
        self._is_closed = True
        for pool in self._pools.values():
            pool.shutdown(wait=False, cancel_futures=True)
        for pool in self._pools.values():
            pool.shutdown()

    def map(self, step: Step, items: Sequence[Any] | Mapped, *shared: object) -> Mapped:
        """Starts a step over many items."""
        if isinstance(items, Mapped):
            pending = cast("Sequence[Future[list[Any]]]", items.batches)
        else:
            pending = [Future[list[Any]]() for _ in items]
            for future, item in zip(pending, items, strict=True):
                future.set_result([item])
        batches = [self._submit(step, batch, shared) for batch in pending]
        return Mapped(batches, range(len(batches)))

    def run(self, step: Step, *inputs: object) -> Any:
        """Runs a step in the calling thread."""
        return step.work(self._context, *inputs)

    def _submit(
        self, step: Step, batch: Future[list[Any]], shared: Sequence[object]
    ) -> Future[list[Any]]:
        """Submits the step once its batch is done; the batch's error becomes the step's."""
        outcome: Future[list[Any]] = Future()

        def work() -> None:
            try:
                results = [step.work(self._context, item, *shared) for item in batch.result()]
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                outcome.set_exception(error)
            else:
                outcome.set_result(results)

        def start(_: object) -> None:
            if not self._is_closed:
                self._pools[step.lane].submit(work)

        batch.add_done_callback(start)
        return outcome
