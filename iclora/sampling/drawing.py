"""Drawing what is asked for and not yet there, batch by batch, straight to disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from iclora.sampling.adapters import worn
from iclora.sampling.painter import Manner, Painter, Wish, load_painter
from iclora.sampling.records import describe, is_whole, save_render
from schemas.config import Config
from schemas.sampling import AdapterUse, RenderRecord

log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and how much there is."""


class Order(NamedTuple):
    """A wish and the record of the render that answers it."""

    wish: Wish
    record: RenderRecord


def quiet(_what: str, _done: int, _of: int) -> None:
    """A progress that nobody watches."""


def draw_wishes(
    wishes: Sequence[Wish],
    config: Config,
    out: Path,
    *,
    adapters: Sequence[AdapterUse] = (),
    progress: Progress = quiet,
) -> tuple[RenderRecord, ...]:
    """Draws what of these wishes is not yet whole in a folder.

    Args:
        wishes: captions with their seeds and given panels.
        config: base, layout and ``sample``.
        out: the folder.
        adapters: worn together.
        progress: told after every batch.

    Returns:
        One record a wish, in order.

    Raises:
        BadInput: an adapter does not fit the base.
        MissingModel: the base is not on this machine.
    """
    params = config.sample
    painter = load_painter(config.base.model, config.base.family, params.weights, params.precision)
    manner = Manner(config.layout, params, clean=enters_clean(config, adapters, painter))
    orders = [Order(wish, _record(painter, wish, manner, adapters)) for wish in wishes]
    waiting = [o for o in {o.record.key: o for o in orders}.values() if not is_whole(out, o.record)]
    log.info("%d renders asked for, %d to draw", len(orders), len(waiting))
    if waiting:
        texts = [order.wish.caption for order in waiting]
        painter.read([*texts, ""] if params.true_cfg > 1 else texts)
        with worn(painter.transformer, adapters, painter.family):
            draw_all(painter, waiting, manner, out, progress)
    return tuple(order.record for order in orders)


def enters_clean(config: Config, adapters: Sequence[AdapterUse], painter: Painter) -> bool:
    """Whether given panels enter clean: as asked, or as base and adapters were trained."""
    if config.sample.given != "auto":
        return config.sample.given == "clean"
    return painter.family.needs_blank or any(use.conditional for use in adapters)


def _record(
    painter: Painter, wish: Wish, manner: Manner, adapters: Sequence[AdapterUse]
) -> RenderRecord:
    return describe(
        wish.caption,
        wish.seed,
        base=painter.label,
        adapters=adapters,
        layout=manner.layout,
        params=manner.params,
        given=wish.given,
        clean=manner.clean,
    )


def draw_all(
    painter: Painter, orders: Sequence[Order], manner: Manner, out: Path, progress: Progress
) -> None:
    """Batch after batch; when memory does not suffice, in halves from then on."""
    size, done = manner.params.batch, 0
    for group in _alike(orders):
        start = 0
        while start < len(group):
            batch = group[start : start + size]
            try:
                canvases = painter.draw([order.wish for order in batch], manner)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2
                log.warning("out of memory: going on with %d renders at a time", size)
                torch.cuda.empty_cache()
                continue
            for order, canvas in zip(batch, canvases, strict=True):
                save_render(out, order.record, canvas, manner.layout, order.wish.given)
            start += len(batch)
            done += len(batch)
            progress("draw", done, len(orders))


def _alike(orders: Sequence[Order]) -> Iterator[list[Order]]:
    """Orders that may share a batch: those that give the same panels."""

    def given(order: Order) -> tuple[int, ...]:
        return tuple(order.wish.given)

    for _, group in groupby(sorted(orders, key=given), key=given):
        yield list(group)
