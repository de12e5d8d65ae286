"""``train.trainer = "ai-toolkit"``, against a stand-in that behaves on disk as its run.py does."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from training_config import with_train

from iclora.errors import BadConfig, IcloraError
from iclora.models.families.flux1 import FAMILY
from iclora.train import train_adapter
from iclora.training.ai_toolkit import launch
from iclora.training.lora import add_lora
from iclora.training.metrics import TENSORBOARD, read_metrics
from iclora.training.signals import StopRequest, TrainingInterrupted
from schemas.adapter import AdapterManifest, RunRecord

STAND_IN = """
import json, pickle, signal, sys, time
from pathlib import Path
import safetensors.numpy, yaml  # not torch, which takes seconds to import
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

tree = yaml.safe_load(Path(sys.argv[1]).read_text())
name, job = tree["config"]["name"], tree["config"]["process"][0]
behaviour = Path(__file__).with_name("behaviour").read_text()
pairs = sorted(Path(job["datasets"][0]["folder_path"]).glob("*.txt"))
assert pairs and all(path.with_suffix(".png").is_file() for path in pairs)
assert Path(job["model"]["name_or_path"]).is_dir()
root = Path(job["training_folder"]) / name
(root / "samples").mkdir(parents=True, exist_ok=True)
(root / "config.yaml").write_text(yaml.safe_dump(tree))
if behaviour == "deaf":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
if behaviour == "breaks":
    raise SystemExit(3)
tensors = safetensors.numpy.load_file(Path(__file__).with_name("tensors.safetensors"))
steps = job["train"]["steps"]
writer = EventFileWriter(str(Path(job["log_dir"]) / f"{name}_{time.time_ns()}"))

def log(step, **values):  # as torch's SummaryWriter does
    for tag, value in values.items():
        summary = Summary(value=[Summary.Value(tag=tag, simple_value=value)])
        writer.add_event(Event(wall_time=time.time(), step=step, summary=summary))
    writer.flush()

def save(step, file):
    meta = {"format": "pt", "training_info": json.dumps({"step": step, "epoch": 0})}
    safetensors.numpy.save_file(tensors, root / file, metadata=meta)
    (root / "optimizer.pt").write_bytes(pickle.dumps({}))

start = len(list(root.glob(f"{name}_*.safetensors")))
for step in range(start, steps):
    log(step, loss=1.0 / (step + 1), lr=job["train"]["lr"])
    save(step, f"{name}_{step:09d}.safetensors")
    while behaviour in ("hangs", "deaf") and step == 1:
        try:
            time.sleep(60)
        except KeyboardInterrupt:  # run.py exits with 0 and saves nothing
            sys.exit(0)
(root / "samples" / "1__000000000_0.jpg").write_bytes(b"picture")
if behaviour != "leaves nothing":
    save(steps, f"{name}.safetensors")
"""


@pytest.fixture
def toolkit(tmp_path, monkeypatch, tiny_flux):
    """Makes a checkout of the stand-in that behaves as told."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "run.py").write_text(STAND_IN)
    transformer = FAMILY.load_transformer(tiny_flux, dtype=torch.float32)
    fresh = add_lora(transformer, FAMILY, rank=2, seed=0)
    tensors = {f"transformer.{name}": torch.randn(part.shape) for name, part in fresh.items()}
    safetensors.torch.save_file(tensors, folder / "tensors.safetensors")
    monkeypatch.setenv(launch.CHECKOUT, str(folder))

    def behave(how="well"):
        (folder / "behaviour").write_text(how)
        return tensors

    return behave


@pytest.fixture
def theirs(config):
    return with_train(config, trainer="ai-toolkit")


def test_what_it_trains_becomes_an_adapter_like_any_other(store, dataset, theirs, toolkit):
    tensors = toolkit()
    ref = train_adapter(store, dataset, theirs, "mine")
    folder = Path(ref.url)
    assert ref.steps == 4
    with safetensors.safe_open(folder / "mine.safetensors", "pt") as file:
        said = file.metadata()
        assert set(file.keys()) == set(tensors)
        for name, value in tensors.items():
            assert torch.equal(file.get_tensor(name), value.half())
    settings = json.loads(said["lora_adapter_metadata"])
    assert settings["transformer.r"] == settings["transformer.lora_alpha"] == 2
    assert said["iclora_dataset"].startswith("demo@")
    assert [row["step"] for row in read_metrics(folder / "metrics.jsonl")] == [1, 2, 3, 4]
    assert ref.loss == pytest.approx(0.25, rel=1e-4)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert "renders/1__000000000_0.jpg" in names
    assert len([name for name in names if name.startswith("checkpoints/")]) == 4
    assert any(name.startswith(f"{TENSORBOARD}/") for name in names)
    assert not [name for name in names if name.endswith(".pt")]  # pickles stay behind
    record = RunRecord.from_text((folder / "run.json").read_bytes())
    assert record.plan == "trained by AI-Toolkit"
    manifest = AdapterManifest.from_text((folder / "manifest.json").read_bytes())
    assert set(manifest.digests) == names - {"manifest.json"}
    assert "AI-Toolkit" in (folder / "README.md").read_text()
    assert str(store.root) not in (folder / "run.json").read_text()
    assert not any((store.work_folder / "training").glob("mine-*"))

    from diffusers import FluxPipeline

    pipe = FluxPipeline.from_pretrained(theirs.base.model)
    pipe.load_lora_weights(str(folder), weight_name="mine.safetensors")
    assert train_adapter(store, dataset, theirs, "mine") == ref


@pytest.mark.parametrize("behaviour", ["hangs", "deaf"])
def test_stopped_it_goes_on_from_its_last_save(
    store, dataset, theirs, toolkit, monkeypatch, behaviour
):
    toolkit(behaviour)
    monkeypatch.setattr(launch, "_GRACE_SECONDS", 2.0)
    request = StopRequest()

    def stop_soon():
        end = time.monotonic() + 60
        while not list(
            (store.work_folder / "training").glob("mine-*/ai-toolkit/output/mine/*1.safetensors")
        ):
            assert time.monotonic() < end
            time.sleep(0.05)
        request.requested = True

    from contextlib import nullcontext

    from iclora.training import run

    monkeypatch.setattr(run, "stop_requests", lambda: nullcontext(request))
    watcher = threading.Thread(target=stop_soon)
    watcher.start()
    with pytest.raises(TrainingInterrupted, match="goes on from what it saved last"):
        train_adapter(store, dataset, theirs, "mine")
    watcher.join()
    request.requested = False
    toolkit()
    ref = train_adapter(store, dataset, theirs, "mine")
    assert [row["step"] for row in read_metrics(Path(ref.url) / "metrics.jsonl")] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [("breaks", "code 3"), ("leaves nothing", "without mine.safetensors")],
)
def test_its_failures_are_ours(store, dataset, theirs, toolkit, behaviour, sentence):
    toolkit(behaviour)
    with pytest.raises(IcloraError, match=sentence):
        train_adapter(store, dataset, theirs, "mine")
    assert not store.exists("adapters")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"conditional_probability": 0.5}, r"train\.conditional_probability=0"),
        ({"panel_weights": (1.0, 2.0, 1.0)}, r"train\.panel_weights"),
    ],
)
def test_what_it_cannot_do_is_refused(store, dataset, theirs, toolkit, change, sentence):
    toolkit()
    with pytest.raises(BadConfig, match=sentence):
        train_adapter(store, dataset, with_train(theirs, **change), "mine")


def test_without_a_checkout_one_sentence_says_how_to_name_it(store, dataset, theirs, monkeypatch):
    monkeypatch.delenv(launch.CHECKOUT, raising=False)
    with pytest.raises(BadConfig, match="ICLORA_AI_TOOLKIT"):
        train_adapter(store, dataset, theirs, "mine")
