"""Sizes of the family's models."""

from __future__ import annotations

from dataclasses import dataclass, field

from iclora.miniature.draw import PANEL


@dataclass(frozen=True, slots=True, kw_only=True)
class TowerSize:
    """Transformer with equal layers."""

    width: int
    layers: int
    heads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FluxSize:
    """Components of the FLUX pipeline."""

    heads: int = 6
    head_width: int = 32
    rope_axes: tuple[int, int, int] = (8, 12, 12)
    """Channels for text, row and column; their sum is the head width."""

    double_blocks: int = 2
    single_blocks: int = 5
    latent_channels: int = 8
    vae_channels: tuple[int, ...] = (32, 64, 64)
    """Channels per stage; three stages halve twice, a factor of 4."""

    clip: TowerSize = TowerSize(width=128, layers=2, heads=4)
    t5: TowerSize = TowerSize(width=128, layers=2, heads=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilySize:
    """Sizes of the whole family; by default those of the trained one, ``TINY`` for tests."""

    panel: int = PANEL
    """Side of the pictures of CLIP and the VLM in pixels."""

    patch: int = 8
    context: int = 128
    """Number of tokens; the longest mosaic caption has 93."""

    clip_vision: TowerSize = TowerSize(width=128, layers=3, heads=4)
    """Size of CLIP's vision tower; the VLM's has the same."""

    clip_text: TowerSize = TowerSize(width=96, layers=2, heads=3)
    vlm_text: TowerSize = TowerSize(width=128, layers=3, heads=4)
    flux: FluxSize = field(default_factory=FluxSize)


_TINY_TOWER = TowerSize(width=32, layers=1, heads=2)
TINY = FamilySize(
    clip_vision=_TINY_TOWER,
    clip_text=_TINY_TOWER,
    vlm_text=_TINY_TOWER,
    flux=FluxSize(
        heads=2,
        double_blocks=1,
        single_blocks=1,
        vae_channels=(16, 16, 16),
        clip=_TINY_TOWER,
        t5=_TINY_TOWER,
    ),
)
"""Smallest family with all its parts."""
