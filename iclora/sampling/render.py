"""Batched rendering of missing images, written straight to disk."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch

from iclora.sampling.adapters import applied
from iclora.sampling.render_records import is_complete, make_record, save_render
from iclora.sampling.sampler import RenderRequest, RenderSettings, Sampler, load_sampler
from schemas.config import Config
from schemas.sampling import AdapterUse, RenderRecord

log = logging.getLogger(__name__)

ProgressCallback = Callable[[str, int, int], None]
"""Progress callback: current step, items done, total items."""


class RenderJob(NamedTuple):
    """Render request with the record of its result."""

    request: RenderRequest
    record: RenderRecord


def no_progress(_what: str, _done: int, _of: int) -> None:
    """Ignores progress."""


def render_requests(
    requests: Sequence[RenderRequest],
    config: Config,
    out: Path,
    *,
    adapters: Sequence[AdapterUse] = (),
    progress: ProgressCallback = no_progress,
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
    settings = RenderSettings(
        config.layout, params, clean=is_given_clean(config, adapters, sampler)
    )
    jobs = [
        RenderJob(request, _record(sampler, request, settings, adapters)) for request in requests
    ]
    waiting = [
        o for o in {o.record.key: o for o in jobs}.values() if not is_complete(out, o.record)
    ]
    log.info("%d renders asked for, %d to draw", len(jobs), len(waiting))
    if waiting:
        texts = [job.request.caption for job in waiting]
        sampler.encode_captions([*texts, ""] if params.true_cfg > 1 else texts)
        with applied(sampler.transformer, adapters, sampler.family):
            render_all(sampler, waiting, settings, out, progress)
    return tuple(job.record for job in jobs)


def is_given_clean(config: Config, adapters: Sequence[AdapterUse], sampler: Sampler) -> bool:
    """Decides if given panels enter clean: as configured, or as base and adapters were trained."""
    if config.sample.given_mode != "auto":
        return config.sample.given_mode == "clean"
    return sampler.family.needs_blank or any(use.conditional for use in adapters)


def _record(
    sampler: Sampler,
    request: RenderRequest,
    settings: RenderSettings,
    adapters: Sequence[AdapterUse],
) -> RenderRecord:
    return make_record(
        request.caption,
        request.seed,
        base=sampler.label,
        adapters=adapters,
        layout=settings.layout,
        params=settings.params,
        given=request.given,
        clean=settings.clean,
    )


def render_all(
    sampler: Sampler,
    jobs: Sequence[RenderJob],
    settings: RenderSettings,
    out: Path,
    progress: ProgressCallback,
) -> None:
    """Renders batch by batch; halves the batch size when memory runs out."""
    size, done = settings.params.batch, 0
    for group in _same_given_panels(jobs):
        start = 0
        while start < len(group):
            batch = group[start : start + size]
            try:
                canvases = sampler.render([job.request for job in batch], settings)
            except torch.OutOfMemoryError:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2
                log.warning("out of memory: going on with %d renders at a time", size)
                torch.cuda.empty_cache()
                continue
            for job, canvas in zip(batch, canvases, strict=True):
                save_render(out, job.record, canvas, settings.layout, job.request.given)
            start += len(batch)
            done += len(batch)
            progress("draw", done, len(jobs))


def _same_given_panels(jobs: Sequence[RenderJob]) -> Iterator[list[RenderJob]]:
    """Groups jobs that can share a batch: those with the same given panels."""

    def given(job: RenderJob) -> tuple[int, ...]:
        return tuple(job.request.given)

    for _, group in groupby(sorted(jobs, key=given), key=given):
        yield list(group)
