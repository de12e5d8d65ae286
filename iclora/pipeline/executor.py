"""Runs the steps of a pipeline over many items; the pipeline itself does not know where.

A pipeline is written once, over the ``Executor`` protocol. ``ThreadExecutor`` runs it in this
process; ``tasks.executor`` runs it as Prefect task runs, on threads or on a Ray cluster. Only
references travel between steps, so memory grows with the number of workers and not of items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, NamedTuple, Protocol, Self, TypeVar, cast

Item = TypeVar("Item")
Made = TypeVar("Made")
Made_co = TypeVar("Made_co", covariant=True)


class Step(NamedTuple):
    """One step of a pipeline.

    ``work`` is a module-level function, so that other processes find it by name. It takes the
    pipeline's context, one item and the values that are shared by all items.
    """

    name: str
    """Name of the step in logs and in the UI."""

    work: Callable[..., Any]
    lane: str = ""
    """Resource that the step waits for, such as ``captioner``; empty is a core."""


class Pending(Protocol[Made_co]):
    """Future of one batch, whoever computes it."""

    def result(self) -> Made_co:
        """Waits; raises the error of the work."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> None:
        """Calls ``fn`` with the future when it is done."""
        ...


class Mapped(NamedTuple, Generic[Made]):
    """Results of one step: a future per batch of consecutive items, in the order of the items."""

    batches: Sequence[Pending[list[Made]]]
    starts: Sequence[int]
    """Position of the first item of each batch."""

    def results(self) -> list[Made]:
        """Waits for all items; raises the first error in their order."""
        return [made for batch in self.batches for made in batch.result()]


class Executor(Protocol):
    """Runs steps, somewhere."""

    def map(self, step: Step, items: Sequence[Any] | Mapped[Any], *shared: object) -> Mapped[Any]:
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


class Batch(NamedTuple, Generic[Made]):
    """Results of consecutive items."""

    start: int
    """Position of the first item."""

    results: Sequence[Made]


def as_completed(*mapped: Mapped[Made]) -> Iterator[Batch[Made]]:
    """Yields batches in the order in which they are done; raises the first error."""
    pairs = [pair for one in mapped for pair in zip(one.starts, one.batches, strict=True)]
    done: SimpleQueue[tuple[int, Pending[list[Made]]]] = SimpleQueue()
    for pair in pairs:
        pair[1].add_done_callback(lambda _, pair=pair: done.put(pair))
    for _ in pairs:
        start, batch = done.get()
        yield Batch(start, batch.result())


class ThreadExecutor:
    """Runs every item on its own, on threads of this process.

    Threads suffice because decoding, CLIP and encoding release the interpreter's lock.

    Args:
        context: first argument of every step.
        workers: threads of the default lane.
        lanes: threads of the other lanes, by name.
    """

    def __init__(
        self, context: object, workers: int, lanes: Mapping[str, int] | None = None
    ) -> None:
        self._context = context
        counts = {"": workers, **(lanes or {})}
        self._pools = {
            lane: ThreadPoolExecutor(count, f"iclora-{lane or 'worker'}")
            for lane, count in counts.items()
        }
        self._futures: list[Future[Any]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancels what has not begun and waits for the rest."""
        for future in self._futures:
            future.cancel()
        for pool in self._pools.values():
            pool.shutdown(cancel_futures=True)

    def map(self, step: Step, items: Sequence[Any] | Mapped[Any], *shared: object) -> Mapped[Any]:
        """Starts a step over many items."""
        pending = _pending(items)
        batches = [self._submit(step, item, shared) for item in pending]
        return Mapped(batches, range(len(pending)))

    def run(self, step: Step, *inputs: object) -> Any:
        """Runs a step in the calling thread."""
        return step.work(self._context, *inputs)

    def _submit(
        self, step: Step, item: Future[list[Any]], shared: Sequence[object]
    ) -> Future[list[Any]]:
        """Submits the step once its item is there; an item's error or cancellation is its own."""
        outcome: Future[list[Any]] = Future()
        self._futures.append(outcome)

        def work() -> None:
            if not outcome.set_running_or_notify_cancel():
                return
            try:
                made = [step.work(self._context, one, *shared) for one in item.result()]
            except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
                outcome.set_exception(error)
            else:
                outcome.set_result(made)

        def start(_: object) -> None:
            if not outcome.cancelled():
                self._pools[step.lane].submit(work)

        item.add_done_callback(start)
        return outcome


def _pending(items: Sequence[Any] | Mapped[Any]) -> Sequence[Future[list[Any]]]:
    if isinstance(items, Mapped):
        return cast("Sequence[Future[list[Any]]]", items.batches)
    ready: list[Future[list[Any]]] = []
    for item in items:
        future: Future[list[Any]] = Future()
        future.set_result([item])
        ready.append(future)
    return ready
