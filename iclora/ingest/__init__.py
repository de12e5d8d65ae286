"""Ingest, the first stage of the pipeline: turns sources into frames.

Accepts films, pictures, archives and datasets. Produces one folder of frames with provenance per
source and one verdict per shot or picture.
"""

from __future__ import annotations

from iclora.ingest.shots import find_cuts
from iclora.ingest.sources import resolve_sources
from iclora.ingest.stage import ingest_source

__all__ = ["find_cuts", "ingest_source", "resolve_sources"]
