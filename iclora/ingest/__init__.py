"""From sources to frames: the first room of the data's way.

What goes in is anything a person has (films, pictures, archives, datasets); what comes out is, for
each source, a folder of frames with their provenance and one verdict for every shot or picture.
"""

from __future__ import annotations

from iclora.ingest.shots import find_cuts
from iclora.ingest.sources import resolve_sources
from iclora.ingest.stage import ingest_source

__all__ = ["find_cuts", "ingest_source", "resolve_sources"]
