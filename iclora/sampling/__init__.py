"""Sampling of panel sets with an adapter, from text alone or around given panels.

Every image is a function of (base, adapters, caption, seed, size, steps, given panels). Its name is
a digest of those, so an interrupted run resumes and no image is sampled twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from iclora.sampling.caption_input import check_captions
from iclora.sampling.contact_sheet import contact_sheet
from iclora.sampling.given_panels import GivenPanels
from iclora.sampling.render_records import RenderRequest, write_lines
from iclora.store import atomic_path
from schemas.config import Config
from schemas.sampling import AdapterUse, RenderRecord

SHEET = "sheet.jpg"
_SHEET_SIDE = 320
_SHEET_ROWS = 64
"""Maximum number of captions on the contact sheet; all captions are written as files."""


def sample_sets(
    captions: Sequence[str],
    config: Config,
    out: Path,
    *,
    adapters: Sequence[AdapterUse] = (),
    given: GivenPanels | None = None,
    progress: Callable[[str, int, int], None] = lambda _step, _done, _total: None,
) -> tuple[RenderRecord, ...]:
    """Samples sets: ``sample.count`` renders per caption, with seeds from ``sample.seed``.

    Args:
        captions: one line each, in the task's format (``config.layout``, ``config.caption``).
        config: base, layout, caption format and ``sample``.
        out: folder for canvases, ``panels/``, ``sets.jsonl`` and ``sheet.jpg``; complete renders in
            it are kept.
        adapters: adapters applied together, each with its weight; empty for the bare base.
        given: panels (by index from 0) that are kept, the same for every caption.
        progress: callback with the current step, the items done, and their total.

    Returns:
        One record per caption and seed, in that order.

    Raises:
        BadInput: a caption breaks its task's format, or an adapter does not fit the base.
        MissingModel: the base is not on this machine.
    """
    check_captions(captions, config.layout, config.caption)
    # Behind the check: a caption that is refused costs no loading of torch.
    from iclora.sampling.render import render_requests

    seeds = range(config.sample.seed, config.sample.seed + config.sample.count)
    requests = [RenderRequest(caption, seed, given or {}) for caption in captions for seed in seeds]
    records = render_requests(requests, config, out, adapters=adapters, progress=progress)
    write_lines(out, records)
    _write_sheet(out, records)
    return records


def _write_sheet(out: Path, records: Sequence[RenderRecord]) -> None:
    """Writes the contact sheet: one row per caption, one image per seed."""
    captions = list(dict.fromkeys(record.caption for record in records))[:_SHEET_ROWS]
    rows = [
        [_opened(out / record.canvas) for record in records if record.caption == caption]
        for caption in captions
    ]
    with atomic_path(out / SHEET) as scratch:
        contact_sheet(rows, captions, side=_SHEET_SIDE).save(
            scratch, "JPEG", quality=90, subsampling=0
        )


def _opened(canvas: Path) -> Image.Image:
    """Opens a canvas and shrinks it at once, so that the sheet fits in memory."""
    with Image.open(canvas) as picture:
        small = picture.convert("RGB")
    small.thumbnail((_SHEET_SIDE, _SHEET_SIDE), Image.Resampling.LANCZOS)
    return small
