"""A tiny base that draws in milliseconds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from iclora.presets import load_config
from schemas.config import Config

CAPTION = (
    "[MOVIE-SHOTS] a story of <Ann> with pink hair, [SCENE-1] a wide shot of <Ann> waving, "
    "[SCENE-2] a close shot of <Ann> reading a book, [SCENE-3] a medium shot of <Ann> waving."
)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory) -> Path:
    """A FluxPipeline folder of some hundred thousand random parameters."""
    from iclora.miniature.flux_folder import build_flux, save_flux
    from iclora.miniature.sizes import TINY

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny") / "flux"
    save_flux(build_flux(TINY), folder)
    return folder


@pytest.fixture
def config(tiny_flux) -> Config:
    """Three steps, three panels of 32 pixels."""
    return load_config(
        "miniature",
        {
            "base.model": str(tiny_flux),
            "layout.panel_width": 32,
            "layout.panel_height": 32,
            "sample.steps": 3,
            "sample.batch": 4,
        },
    )


@pytest.fixture
def captions() -> list[str]:
    """Three captions in the task's format."""
    return [CAPTION, CAPTION.replace("Ann", "Ben"), CAPTION.replace("pink", "blue")]


@pytest.fixture(scope="session")
def write_lora(tiny_flux):
    """Writes a LoRA of rank 2 on the attention with random weights; scale 0 changes nothing."""
    from diffusers import FluxTransformer2DModel
    from peft import LoraConfig
    from peft.utils import get_peft_model_state_dict
    from safetensors.torch import save_file

    model = FluxTransformer2DModel.from_pretrained(tiny_flux, subfolder="transformer")
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=["to_q", "to_v"]))
    shapes = {name: value.shape for name, value in get_peft_model_state_dict(model).items()}

    def write(file: Path, *, seed: int = 1, scale: float = 0.5, prefix="transformer.") -> Path:
        generator = torch.Generator().manual_seed(seed)
        weights = {
            f"{prefix}{name}": torch.randn(shape, generator=generator) * scale
            for name, shape in shapes.items()
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file(weights, file)
        return file

    return write
