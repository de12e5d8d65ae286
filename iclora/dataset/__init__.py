"""Captioned canvases to an immutable, verified dataset version, and back."""

from __future__ import annotations

from iclora.dataset.reader import Dataset, open_dataset

__all__ = ["Dataset", "open_dataset"]
