"""Batched rendering of missing images, written straight to disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import torch

from iclora.sampling.adapters import applied
from iclora.sampling.render_records import (
    RenderRequest,
    RenderSettings,
    is_complete,
    make_record,
    save_render,
)
from iclora.sampling.sampler import Sampler, load_sampler
from schemas.config import Config
from schemas.sampling import AdapterUse, RenderRecord

log = logging.getLogger(__name__)

ProgressCallback = Callable[[str, int, int], None]
"""Progress callback: current step, items done, total items."""


def render_requests(
    requests: Sequence[RenderRequest],
    config: Config,
    out: Path,
    *,
    adapters: Sequence[AdapterUse] = (),
    progress: ProgressCallback = lambda _step, _done, _total: None,
) -> tuple[RenderRecord, ...]:
    """Renders the requests that are missing or incomplete in a folder.

    Args:
        requests: captions with their seeds and given panels.
        config: base, layout and ``sample``.
        out: output folder.
        adapters: adapters applied together.
        progress: callback after every batch.

    Returns:
        One record per request, in order.

    Raises:
        BadInput: an adapter does not fit the base.
        MissingModel: the base is not on this machine.
    """
    params = config.sample
    sampler = load_sampler(config.base.model, config.base.family, params.weights, params.precision)
    settings = RenderSettings(config.layout, params, is_given_clean(config, adapters, sampler))
    records = [
        make_record(request, settings, base=sampler.label, adapters=adapters)
        for request in requests
    ]
    by_key = {
        record.key: (request, record) for request, record in zip(requests, records, strict=True)
    }
    missing = [job for job in by_key.values() if not is_complete(out, job[1])]
    log.info("%d renders asked for, %d to draw", len(records), len(missing))
    if missing:
        captions = [request.caption for request, _ in missing]
        sampler.encode_captions([*captions, ""] if params.true_cfg > 1 else captions)
        with applied(sampler.transformer, adapters, sampler.family):
            render_all(sampler, missing, settings, out, progress)
    return tuple(records)


def is_given_clean(config: Config, adapters: Sequence[AdapterUse], sampler: Sampler) -> bool:
    """Decides if given panels enter clean: as configured, or as base and adapters were trained."""
    if config.sample.given_mode != "auto":
        return config.sample.given_mode == "clean"
    return sampler.family.needs_blank or any(use.conditional for use in adapters)


def render_all(
    sampler: Sampler,
    jobs: Sequence[tuple[RenderRequest, RenderRecord]],
    settings: RenderSettings,
    out: Path,
    progress: ProgressCallback,
) -> None:
    """Renders batch by batch; halves the batch size when memory runs out."""

    def given_panels(job: tuple[RenderRequest, RenderRecord]) -> tuple[int, ...]:
        return tuple(job[0].given)

    size, done = settings.params.batch, 0
    # Renders with the same given panels can share a batch.
    for _, group in groupby(sorted(jobs, key=given_panels), key=given_panels):
        waiting = list(group)
        while waiting:
            batch = waiting[:size]
            try:
                canvases = sampler.render([request for request, _ in batch], settings)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2
                log.warning("out of memory: going on with %d renders at a time", size)
                torch.cuda.empty_cache()
                continue
            for (request, record), canvas in zip(batch, canvases, strict=True):
                save_render(out, record, canvas, settings.layout, request.given)
            waiting = waiting[len(batch) :]
            done += len(batch)
            progress("draw", done, len(jobs))
