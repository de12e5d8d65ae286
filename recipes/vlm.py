"""Trains the miniature VLM: ``python -m recipes.vlm OUT``.

It begins with the eyes of the family's CLIP, so the Llama behind them learns to read from the
first step; everything is trained. It says ``someone`` and never a name, because it saw none.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import open_clip
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, LlavaForConditionalGeneration

import iclora.miniature
from iclora.miniature.captions import attributes_in, panel_caption, words
from iclora.miniature.reader import as_input
from iclora.miniature.script import NAMES
from iclora.miniature.sizes import FamilySize
from iclora.miniature.tokenizer import END, IMAGE, PAD, START, build_tokenizer, token_id
from iclora.miniature.vlm_folder import build_vlm, look_through, save_vlm
from iclora.miniature.world import VALUES
from recipes.command import read_arguments
from recipes.heldout import HeldOut, held_out_frames
from recipes.loop import Cosine, train
from recipes.pool import ScenePool, attributes_of, disturbed, scene_pool

log = logging.getLogger(__name__)

STEPS: Final = 600
SCENES: Final = 6000
SHOTS: Final = 3
BATCH: Final = 32
FILMS: Final = 16
CLIP_FOLDER: Final = Path(iclora.miniature.__file__).parent / "weights" / "clip"

_UNSCORED = -100
"""The label that transformers leaves out of the loss."""

_ASK = 32
_LONGEST = 40
"""Tokens of an answer; a full clause has 27."""


def train_vlm(
    folder: Path, steps: int, size: FamilySize, pool: ScenePool, clip: nn.Module
) -> LlavaForConditionalGeneration:
    """Trains, or goes on training, and writes ``folder/model``.

    Args:
        folder: Where the checkpoint is kept.
        steps: Of the whole training.
        size: How large the model is.
        pool: Panels to describe.
        clip: An open_clip model of the same size, whose eyes it begins with.
    """
    torch.manual_seed(0)
    model = build_vlm(size)
    look_through(model, clip.get_submodule("visual"))
    pixels = pool.pixels.reshape(-1, *pool.pixels.shape[2:])
    rows = _token_rows(pool, size)

    def loss_of(step: int) -> Tensor:
        drawn = np.random.default_rng(step).integers(len(pixels), size=BATCH)
        generator = torch.Generator().manual_seed(step)
        pictures = disturbed(as_input(pixels[drawn]), generator)
        tokens = rows[drawn]
        silent = (tokens == token_id(IMAGE)) | (tokens == token_id(START))
        known = tokens != token_id(PAD)
        return model(
            input_ids=tokens,
            attention_mask=known.long(),
            pixel_values=pictures,
            labels=tokens.masked_fill(silent | ~known, _UNSCORED),
        ).loss

    train(model, loss_of, Cosine(steps=steps, peak=8e-4), folder)
    save_vlm(model, folder / "model", size)
    return model


def _token_rows(pool: ScenePool, size: FamilySize) -> Tensor:
    """What the model reads and should say of every panel, padded on the right [n, tokens]."""
    tokenizer = build_tokenizer("none", context=4 * size.context)
    tokenizer.padding_side = "right"
    seen = IMAGE * (size.panel // size.patch) ** 2
    labels = pool.labels.reshape(-1, pool.labels.shape[-1])
    said = [f"{seen}{START}{panel_caption(attributes_of(row))}{END}" for row in labels]
    return tokenizer(said, padding="longest", return_tensors="pt").input_ids


def measure_vlm(model_folder: Path, frames: list[HeldOut]) -> dict[str, float]:
    """The share of frames of which each attribute is told right, and of answers with a name."""
    processor: Any = AutoProcessor.from_pretrained(model_folder, local_files_only=True)
    model: Any = AutoModelForImageTextToText.from_pretrained(model_folder, local_files_only=True)
    said: list[str] = []
    for start in range(0, len(frames), _ASK):
        said += _describe(processor, model.eval(), frames[start : start + _ASK])
    told = [attributes_in(text) for text in said]
    pairs = list(zip(told, frames, strict=True))
    right = {
        name: [row.get(name) == getattr(frame.attributes, name) for row, frame in pairs]
        for name in VALUES
    }
    invented = ["<" in text or bool(set(words(text)) & set(NAMES)) for text in said]
    scores = {name: round(float(np.mean(hits)), 4) for name, hits in right.items()}
    return scores | {"invented role": round(float(np.mean(invented)), 4)}


def _describe(processor: Any, model: Any, frames: list[HeldOut]) -> list[str]:
    asked = [{"type": "image"}, {"type": "text", "text": "Describe the picture."}]
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
    )
    pictures = [frame.picture for frame in frames]
    inputs = processor(text=[prompt] * len(frames), images=pictures, return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=_LONGEST)
    new = tokens[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.batch_decode(new, skip_special_tokens=True)]


def main() -> None:
    """The command."""
    order = read_arguments("Trains the miniature VLM.", steps=STEPS)
    clip = open_clip.create_model(f"local-dir:{CLIP_FOLDER}")
    pool = scene_pool(order.folder, SCENES, SHOTS)
    train_vlm(order.folder, order.steps, FamilySize(), pool, clip)
    frames = held_out_frames(order.folder / "films", FILMS)
    log.info("%d held-out frames: %s", len(frames), measure_vlm(order.folder / "model", frames))


if __name__ == "__main__":
    main()
