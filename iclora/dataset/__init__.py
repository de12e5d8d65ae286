"""Dataset publishing and reading: captioned canvases to an immutable, verified version."""

from __future__ import annotations

from iclora.dataset.reader import Dataset, open_dataset

__all__ = ["Dataset", "open_dataset"]
