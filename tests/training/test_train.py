"""From a dataset in the store to an adapter's folder."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from training_config import with_train

from iclora.errors import BadConfig
from iclora.models.families.flux1 import Flux1
from iclora.train import train_adapter
from schemas.adapter import AdapterManifest, RunRecord


def test_a_run_leaves_a_whole_adapter(trained):
    store, ref, seen = trained
    folder = Path(ref.url)
    assert [report.step for report in seen] == [1, 2, 3, 4]
    names = {path.name for path in folder.iterdir()}
    assert names >= {"mine.safetensors", "mine-raw.safetensors", "run.json", "metrics.jsonl"}
    assert names >= {"README.md", "checkpoints", "manifest.json"}
    assert store.read("adapters/mine/LATEST").decode() == f"{ref.version}\n"
    assert max(path.name for path in (folder / "checkpoints").iterdir()) == "step-00000004"
    record = RunRecord.from_text((folder / "run.json").read_bytes())
    assert record.steps == 4
    assert record.loss > 0
    assert record.validation.keys() == {"all", "t=0.5", "panel-1", "panel-2", "panel-3"}
    manifest = AdapterManifest.from_text((folder / "manifest.json").read_bytes())
    assert "mine.safetensors" in manifest.digests
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 4]
    assert str(store.root) not in (folder / "run.json").read_text()


def test_encoders_are_gone_before_the_transformer_comes_in(store, dataset, config, monkeypatch):
    seen, alive = [], []

    def watched(name, keeps):
        load = getattr(Flux1, name)

        def loading(*arguments, **options):
            gc.collect()
            alive.append((name, sum(reference() is not None for reference in seen)))
            found = load(*arguments, **options)
            seen.extend(weakref.ref(part) for part in keeps(found))
            return found

        monkeypatch.setattr(Flux1, name, loading)

    watched("load_text", lambda encoders: [encoders.clip, encoders.t5])
    watched("load_vae", lambda vae: [vae])
    watched("load_transformer", lambda transformer: [transformer])
    train_adapter(store, dataset, config, "mine")
    assert alive[:3] == [("load_text", 0), ("load_vae", 0), ("load_transformer", 0)]


def test_a_finished_run_is_found_not_repeated(trained, config):
    store, first, _ = trained
    before = (Path(first.url) / "mine.safetensors").stat().st_mtime_ns
    assert train_adapter(store, "demo", config, "mine") == first
    assert (Path(first.url) / "mine.safetensors").stat().st_mtime_ns == before


def test_the_adapter_draws_in_a_plain_pipeline(trained, tiny_flux):
    from diffusers import FluxPipeline

    _, ref, _ = trained
    pipe = FluxPipeline.from_pretrained(tiny_flux)
    pipe.set_progress_bar_config(disable=True)

    def draw():
        noise = torch.Generator().manual_seed(1)
        return pipe(
            "a house", width=32, height=96, num_inference_steps=2, generator=noise,
            output_type="latent", max_sequence_length=64,
        ).images  # fmt: skip

    bare = draw()
    pipe.load_lora_weights(ref.url, weight_name="mine-raw.safetensors")
    assert not torch.equal(bare, draw())
    pipe.unload_lora_weights()
    assert torch.equal(bare, draw())


def test_files_carry_alpha_equal_to_rank(trained):
    _, ref, _ = trained
    with safetensors.safe_open(f"{ref.url}/mine.safetensors", "pt") as file:
        settings = json.loads(file.metadata()["lora_adapter_metadata"])
        assert settings["transformer.r"] == settings["transformer.lora_alpha"] == 2
        assert all(key.startswith("transformer.") for key in file.keys())  # noqa: SIM118 - not a mapping
        assert not any("alpha" in key for key in file.keys())  # noqa: SIM118 - not a mapping
        assert file.get_tensor(next(iter(file.keys()))).dtype == torch.float16


def test_a_preview_trains_only_the_miniature(store, publish, paint, config):
    name = publish(store, [paint(0)], preview=True)
    with pytest.raises(BadConfig, match="allow_preview"):
        train_adapter(store, name, config, "mine")
    data = config.data.model_copy(update={"allow_preview": True})
    train_adapter(store, name, config.model_copy(update={"data": data}), "mine")


def test_sheets_show_base_and_adapter_and_leave_the_run_alone(trained, store, dataset, config):
    from PIL import Image

    _, without, _ = trained
    sample = config.sample.model_copy(update={"steps": 2, "prompts": ("a", "b")})
    drawn = with_train(config, sample_every=3).model_copy(update={"sample": sample})
    ref = train_adapter(store, dataset, drawn, "drawn")
    sheets = sorted((Path(ref.url) / "renders").iterdir())
    assert [path.name for path in sheets] == ["step-00000003.jpg", "step-00000004.jpg"]
    sheet = Image.open(sheets[-1])
    assert sheet.size == (2 * 32, 2 * 96)
    halves = [sheet.crop((x, 0, x + 32, 192)).tobytes() for x in (0, 32)]
    assert halves[0] != halves[1]
    one, two = (Path(r.url) / f"{r.name}-raw.safetensors" for r in (without, ref))
    with safetensors.safe_open(one, "pt") as a, safetensors.safe_open(two, "pt") as b:
        names = list(a.keys())
        assert all(torch.equal(a.get_tensor(name), b.get_tensor(name)) for name in names)


def test_offloading_what_is_idle_changes_no_byte(store, dataset, config):
    quick = config.model_copy(update={"sample": config.sample.model_copy(update={"steps": 2})})
    plain = with_train(quick, sample_every=4, weights="fp8", precision="bf16")
    saving = with_train(plain, offload=True)
    one, two = (Path(train_adapter(store, dataset, c, "mine").url) for c in (plain, saving))
    assert one != two
    for name in ("metrics.jsonl", "renders/step-00000004.jpg"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    weights = [safetensors.torch.load_file(place / "mine.safetensors") for place in (one, two)]
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items())
