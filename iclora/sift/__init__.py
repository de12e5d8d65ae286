"""Sifting: which frames are good, which belong together, and which sets go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, result_of, run_stage
from iclora.sift.bounds import resolve_band
from iclora.sift.calibration import calibration_page
from iclora.sift.choose import Entry, choose
from iclora.sift.forming import form, free_indices, read_rows
from iclora.sift.judging import judge_source
from iclora.sift.measuring import MEASURE, labels_of
from iclora.sift.similarity import Cosines, neighbour_cosines
from iclora.store import Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.frame import ImageSet
from schemas.sift import BandParams
from schemas.stage import Chosen, Formed, Scored, StageRef

__all__ = [
    "calibrate",
    "calibration_page",
    "choose_sets",
    "form_sets",
    "likely_sets",
    "score_frames",
]

QUALITY = Stage("quality", 1)
SETS = Stage("sets", 1)
CHOOSE = Stage("choose", 2)


def score_frames(
    store: Store, ingested: StageRef, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Measures one source's frames and keeps the good ones (``Scored``, stage ``quality``)."""
    sift = config.sift
    models = sorted(labels_of(sift).items())
    prompts = [list(sift.require), list(sift.exclude)]

    def work(folder: Path) -> Scored:
        return judge_source(folder, store, ingested, sift, report)

    inputs = [ingested.digest, digest_of([MEASURE.version, models, prompts])]
    return run_stage(store, QUALITY, [sift.quality, sift.policy], inputs, work)


def calibrate(store: Store, scored: Sequence[StageRef], config: Config) -> BandParams:
    """The bounds of the whole build in absolute numbers; the order of sources does not matter."""
    band = config.sift.sets.band
    if band.unit == "absolute":
        return band
    cosines = [_neighbours(store, ref) for ref in scored]
    return resolve_band(cosines, band)


def form_sets(store: Store, scored: StageRef, bounds: BandParams, config: Config) -> StageRef:
    """Groups one source's good frames into sets (``Formed``, stage ``sets``)."""
    params = config.sift.sets.model_copy(update={"band": bounds})
    panels = config.layout.panels

    def work(_: Path) -> Formed:
        return form(store, scored, panels, params)

    return run_stage(store, SETS, [params], [scored.digest, str(panels)], work)


def choose_sets(store: Store, formed: Sequence[StageRef], config: Config) -> StageRef:
    """Chooses among the sets of all sources (``Chosen``, stage ``choose``)."""
    sift = config.sift
    targets = digest_of([sift.max_set_similarity, sift.max_sets])

    def work(_: Path) -> Chosen:
        entries = [entry for ref in formed for entry in _entries(store, ref)]
        outcome = choose(entries, sift)
        return Chosen(sets=outcome.kept, seen=len(outcome.verdicts), verdicts=outcome.verdicts)

    return run_stage(store, CHOOSE, [], [*sorted(ref.digest for ref in formed), targets], work)


def likely_sets(
    store: Store, formed: StageRef, config: Config, sources: int
) -> tuple[ImageSet, ...]:
    """The sets of one source that will most likely be chosen, before the others are known.

    Args:
        store: where stages are.
        formed: the source's sets.
        config: the build's.
        sources: of the build; each has an equal share of ``sift.max_sets``, so that all together
            never name more than that.
    """
    sift, share = config.sift, config.sift.max_sets // sources
    if sift.max_sets and not share:
        return ()
    return choose(_entries(store, formed), sift.model_copy(update={"max_sets": share})).kept


def _neighbours(store: Store, ref: StageRef) -> Cosines:
    scored = result_of(store, ref, Scored)
    return neighbour_cosines(read_rows(store, ref, scored)[free_indices(scored)])


def _entries(store: Store, ref: StageRef) -> list[Entry]:
    formed = result_of(store, ref, Formed)
    scored = result_of(store, formed.scored, Scored)
    rows = read_rows(store, formed.scored, scored)
    index = {frame.id: number for number, frame in enumerate(scored.frames)}
    return [
        Entry(one, rows[[index[frame.id] for frame in one.frames]], one.scores["merit"])
        for one in formed.sets
    ]
