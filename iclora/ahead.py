"""Before all sources are read: the canvases of a source that will most likely be wanted.

Choosing sets needs every source, but a captioner should not stand still until the last film is
decoded. So the best sets of each source, its equal share of ``sift.max_sets``, are stitched and
captioned as soon as the source is read. Nothing is decided by that: the stages of what is chosen
in the end are found done, or take their captions from the cache.
"""

from __future__ import annotations

from iclora.panels import stitch_sets
from iclora.sift import form_sets, likely_sets
from iclora.store import Store
from schemas.config import Config
from schemas.stage import StageRef


def stitch_ahead(
    store: Store, ingested: StageRef, scored: StageRef, config: Config, sources: int
) -> StageRef | None:
    """Stitches the sets of one source that will most likely be chosen, for captioning ahead.

    Args:
        store: where stages are.
        ingested: the source's frames.
        scored: those that are good.
        config: the build's.
        sources: of the build.

    Returns:
        A ``Stitched``; None if nothing is known yet, or nothing is gained by being early.
    """
    band = config.sift.sets.band
    if sources == 1 or band.unit != "absolute" or config.caption.captioner.kind == "beside":
        return None
    formed = form_sets(store, scored, band, config)
    sets = likely_sets(store, formed, config, sources)
    return stitch_sets(store, ingested, sets, config) if sets else None
