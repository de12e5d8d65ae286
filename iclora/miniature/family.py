"""Model family with random weights in the formats of the trained ones.

Used by tests and on machines without trained weights; the recipes start from it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from iclora.miniature.clip_folder import build_clip, save_clip
from iclora.miniature.flux_folder import build_flux, save_flux
from iclora.miniature.sizes import FamilySize
from iclora.miniature.vlm_folder import build_vlm, save_vlm


def build_random_family(folder: Path, seed: int = 0, size: FamilySize | None = None) -> None:
    """Writes ``clip/``, ``vlm/`` and ``flux/``, each in the format of released models.

    Args:
        folder: Target folder; created if missing.
        seed: Random seed; equal seeds give equal weights with the same version of torch.
        size: Sizes of the models; by default those of the trained ones.
    """
    size = size or FamilySize()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_clip(build_clip(size), folder / "clip", size)
        save_vlm(build_vlm(size), folder / "vlm", size)
        save_flux(build_flux(size), folder / "flux")
