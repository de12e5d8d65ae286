"""Filtering stages: frame quality, grouping of frames into sets, and selection of sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from iclora.filtering.calibration import calibration_page
from iclora.filtering.embed_stage import MEASURE, model_labels
from iclora.filtering.grouping_stage import group_source, load_embeddings, ungrouped_indices
from iclora.filtering.quality_stage import score_source
from iclora.filtering.selection import ScoredSet, choose
from iclora.filtering.similarity import Cosines, neighbour_cosines
from iclora.filtering.thresholds import resolve_similarity
from iclora.pipeline.progress import Report, ignore_progress
from iclora.pipeline.stage import Stage, result_of, run_stage
from iclora.store import Store
from schemas.base import digest_of
from schemas.config import Config
from schemas.filtering import SimilarityParams
from schemas.frame import ImageSet
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
    """Scores one source's frames and keeps the good ones (``Scored``, stage ``quality``)."""
    params = config.filter
    models = sorted(model_labels(params).items())
    prompts = [list(params.require), list(params.exclude)]

    def work(folder: Path) -> Scored:
        return score_source(folder, store, ingested, params, report)

    inputs = [ingested.digest, digest_of([MEASURE.version, models, prompts])]
    return run_stage(store, QUALITY, [params.quality, params.safety], inputs, work)


def calibrate(store: Store, scored: Sequence[StageRef], config: Config) -> SimilarityParams:
    """Resolves the build's similarity bounds to absolute numbers, regardless of source order."""
    similarity = config.filter.sets.similarity
    if similarity.unit == "absolute":
        return similarity
    cosines = [_neighbours(store, ref) for ref in scored]
    return resolve_similarity(cosines, similarity)


def form_sets(store: Store, scored: StageRef, bounds: SimilarityParams, config: Config) -> StageRef:
    """Groups one source's good frames into sets (``Formed``, stage ``sets``)."""
    params = config.filter.sets.model_copy(update={"similarity": bounds})
    panels = config.layout.panels

    def work(_: Path) -> Formed:
        return group_source(store, scored, panels, params)

    return run_stage(store, SETS, [params], [scored.digest, str(panels)], work)


def choose_sets(store: Store, formed: Sequence[StageRef], config: Config) -> StageRef:
    """Chooses among the sets of all sources (``Chosen``, stage ``choose``)."""
    params = config.filter
    targets = digest_of([params.max_set_similarity, params.max_sets])

    def work(_: Path) -> Chosen:
        entries = [entry for ref in formed for entry in _scored_sets(store, ref)]
        outcome = choose(entries, params)
        return Chosen(sets=outcome.kept, seen=len(outcome.verdicts), verdicts=outcome.verdicts)

    return run_stage(store, CHOOSE, [], [*sorted(ref.digest for ref in formed), targets], work)


def likely_sets(
    store: Store, formed: StageRef, config: Config, sources: int
) -> tuple[ImageSet, ...]:
    """Returns the sets of one source that will most likely be chosen, without the other sources.

    Args:
        store: Holds the stages.
        formed: The source's sets.
        config: Configuration of the build.
        sources: Number of sources in the build. Each gets an equal share of ``filter.max_sets``, so
            that the total never exceeds it.
    """
    params, share = config.filter, config.filter.max_sets // sources
    if params.max_sets and not share:
        return ()
    return choose(_scored_sets(store, formed), params.model_copy(update={"max_sets": share})).kept


def _neighbours(store: Store, ref: StageRef) -> Cosines:
    scored = result_of(store, ref, Scored)
    return neighbour_cosines(load_embeddings(store, ref, scored)[ungrouped_indices(scored)])


def _scored_sets(store: Store, ref: StageRef) -> list[ScoredSet]:
    formed = result_of(store, ref, Formed)
    scored = result_of(store, formed.scored, Scored)
    rows = load_embeddings(store, formed.scored, scored)
    index = {frame.id: number for number, frame in enumerate(scored.frames)}
    return [
        ScoredSet(one, rows[[index[frame.id] for frame in one.frames]], one.scores["merit"])
        for one in formed.sets
    ]
