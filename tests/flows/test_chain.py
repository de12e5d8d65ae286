"""The thinnest whole chain, run by Prefect: a film, a shard, twenty steps, a report with sheets."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_captioner import parrot
from safetensors import safe_open

from iclora.dataset.reader import open_dataset
from iclora.dataset.verify import verify_dataset
from iclora.store import Store

CAPTION = (
    "[MOVIE-SHOTS] a day in soft light; [SCENE-1] <Ann>, a girl with red hair, waves on a beach, "
    "[SCENE-2] <Ann> reads a book near the sea, [SCENE-3] <Ann> holds a balloon in the evening."
)


@pytest.fixture(scope="module")
def captioner():
    with parrot(CAPTION) as address:
        yield address


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("chain") / "store"


@pytest.mark.usefixtures("prefect")
def test_film_to_report(film, captioner, place):
    from flows.build_dataset import build_dataset
    from flows.train_adapter import train_adapter

    overrides = {
        "caption.mode": "canvas",
        "caption.tokenizer": "",
        "caption.max_tokens": 512,
        "caption.captioner.kind": "server",
        "caption.captioner.model": "same",
        "caption.captioner.url": captioner,
    }
    dataset = build_dataset([str(film)], "miniature", "", "demo", str(place), overrides)
    store = Store(str(place))
    assert dataset.samples > 0
    assert verify_dataset(open_dataset(store, f"demo@{dataset.version}")).ok
    assert build_dataset([str(film)], "miniature", "", "demo", str(place), overrides) == dataset

    steps = {"train.steps": 20, "train.batch": 2, "train.save_every": 10}
    adapter = train_adapter(f"demo@{dataset.version}", "miniature", "", "demo", str(place), steps)
    assert adapter.steps == 20
    weights = Path(place) / f"adapters/demo/{adapter.version}/demo.safetensors"
    with safe_open(weights, "pt") as file:
        assert "lora_adapter_metadata" in file.metadata()
