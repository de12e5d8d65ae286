"""The whole family with random weights: the right formats, nothing learnt.

Tests and the first run on a machine without trained weights use it; the recipes start from it.
"""

from __future__ import annotations

from pathlib import Path

import torch

from iclora.miniature.clip_folder import build_clip, save_clip
from iclora.miniature.flux_folder import build_flux, save_flux
from iclora.miniature.sizes import FamilySize
from iclora.miniature.vlm_folder import build_vlm, save_vlm


def build_random_family(folder: Path, seed: int = 0, size: FamilySize | None = None) -> None:
    """Writes ``clip/``, ``vlm/`` and ``flux/``, each in the format of the real ones.

    Args:
        folder: Where; made if it is not there.
        seed: Equal seeds give equal weights with the same torch.
        size: How large; the sizes that are trained if None.
    """
    chosen = size or FamilySize()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_clip(build_clip(chosen), folder / "clip", chosen)
        save_vlm(build_vlm(chosen), folder / "vlm", chosen)
        save_flux(build_flux(chosen), folder / "flux")
