"""Filtering stages: frame quality, grouping of frames into sets, and selection of sets."""

from __future__ import annotations

from collections.abc import Sequence

from iclora.filtering.calibration import calibration_page
from iclora.filtering.quality import quality_params, score_source
from iclora.filtering.selection import choose, choose_from_sources, choose_params, load_sets
from iclora.filtering.sets import SetsStageParams, group_source
from iclora.filtering.thresholds import calibrate_similarity
from iclora.pipeline.progress import Report, ignore_progress
from iclora.store import Store
from schemas.config import Config
from schemas.filtering import SimilarityParams
from schemas.frame import ImageSet
from schemas.stage import StageRef

__all__ = [
    "calibrate",
    "calibration_page",
    "choose_sets",
    "form_sets",
    "likely_sets",
    "score_frames",
]


def score_frames(
    store: Store, ingested: StageRef, config: Config, report: Report = ignore_progress
) -> StageRef:
    """Scores one source's frames and keeps the good ones (``Scored``, stage ``quality``)."""
    return score_source(store, ingested, quality_params(config.filter), report)


def calibrate(store: Store, scored: Sequence[StageRef], config: Config) -> SimilarityParams:
    """Resolves the build's similarity bounds to absolute numbers, regardless of source order."""
    return calibrate_similarity(store, scored, config.filter.sets.similarity)


def form_sets(store: Store, scored: StageRef, bounds: SimilarityParams, config: Config) -> StageRef:
    """Groups one source's good frames into sets (``Formed``, stage ``sets``)."""
    sets = config.filter.sets.model_copy(update={"similarity": bounds})
    return group_source(store, scored, SetsStageParams(panels=config.layout.panels, sets=sets))


def choose_sets(store: Store, formed: Sequence[StageRef], config: Config) -> StageRef:
    """Chooses among the sets of all sources (``Chosen``, stage ``choose``)."""
    return choose_from_sources(store, formed, choose_params(config.filter))


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
    params, share = choose_params(config.filter), config.filter.max_sets // sources
    if params.max_sets and not share:
        return ()
    entries = load_sets(store, [formed])
    return choose(entries, params.model_copy(update={"max_sets": share})).sets
