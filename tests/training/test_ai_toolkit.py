"""AI-Toolkit files: read with their quirks, explained key by key, written back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from training_config import with_train

from iclora.dataset.reader import open_dataset
from iclora.errors import BadConfig, BadInput
from iclora.presets import load_config
from iclora.train import train_adapter
from iclora.training.ai_toolkit import explain, export_ai_toolkit, read_ai_toolkit
from iclora.training.ai_toolkit.keys import SECTIONS, upstream_keys
from iclora.training.metrics import read_metrics

FILE = """
job: extension
config:
  name: "My Set"
  process:
    - type: sd_trainer
      training_folder: output
      network: {type: lora, linear: 8, linear_alpha: 4}
      save: {dtype: bf16, save_every: 50}
      datasets:
        - {folder_path: "${PLACE}/[name]", caption_ext: txt, resolution: [512, 768]}
      train:
        batch_size: 2
        steps: 300
        lr: 2e-4
        optimizer: adamw
        dtype: bf16
        ema_config: {use_ema: true, ema_decay: 0.99}
      model: {name_or_path: some/base, is_flux: true, quantize: true}
      sample: {width: 512, height: 768, guidance_scale: 3.5, prompts: ["[name] a --w 3"]}
meta: {name: "[name]", version: "1.0"}
"""


def write(tmp_path, text=FILE, **changes):
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    path = tmp_path / "job.yml"
    path.write_text(text)
    return path


@pytest.fixture(autouse=True)
def _place(monkeypatch):
    monkeypatch.setenv("PLACE", "/pictures")


def test_quirks_and_defaults(tmp_path):
    job = read_ai_toolkit(write(tmp_path))
    config = job.config
    assert (job.name, job.folder) == ("my-set", "/pictures/My Set")
    assert config.train.optimizer.lr == 2e-4
    assert config.train.lora.rank == 8
    assert config.train.lora.save_dtype == "bf16"
    assert config.train.lora.metadata == {"name": "My Set", "version": "1.0"}
    assert config.train.weights == "fp8"
    assert config.data.resolutions == (512, 768)
    assert (config.layout.panel_width, config.layout.panel_height) == (512, 256)
    assert config.sample.prompts == ("My Set a",)
    # what the file leaves out is AI-Toolkit's default, not ours
    assert config.data.caption_dropout == 0.0
    assert config.train.keep_checkpoints == 5
    assert config.train.noise.guidance == 1.0


def test_overrides_come_last(tmp_path):
    job = read_ai_toolkit(write(tmp_path), ["train.steps=6", "base.model=miniature/flux"])
    assert (job.config.train.steps, job.config.base.model) == (6, "miniature/flux")


def test_without_ema_the_average_is_off_and_alone_it_is_theirs(tmp_path):
    off = read_ai_toolkit(write(tmp_path, **{"use_ema: true, ema_decay: 0.99": "use_ema: false"}))
    assert off.config.train.optimizer.ema_decay == 0.0
    alone = read_ai_toolkit(write(tmp_path, **{", ema_decay: 0.99": ""}))
    assert alone.config.train.optimizer.ema_decay == 0.999


def test_every_key_is_explained(tmp_path):
    text = FILE.replace("batch_size: 2", "batchsize: 2\n        gradient_accumulation_steps: 4")
    said = explain(write(tmp_path, text))
    at = "config.process.0."
    assert said[at + "network.linear"].status == "honoured"
    assert said[at + "network.linear_alpha"].status == "ignored upstream"
    assert said[at + "model.quantize"].status == "approximated"
    assert said[at + "train.gradient_accumulation_steps"].status == "refused"
    assert said[at + "train.batchsize"].status == "unknown"
    assert "train.batch_size" in said[at + "train.batchsize"].note
    assert said[at + "train.ema_config.ema_decay"].status == "approximated"
    assert said["meta.version"].status == "honoured"
    assert all(explained.note for explained in said.values())


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("batch_size: 2", "batchsize: 2", r"train\.batchsize.*batch_size"),
        ("linear: 8", "linaer: 8", r"network\.linear\?"),
        ("optimizer: adamw", "optimizer: prodigy", "prodigy"),
        ("type: lora", "type: lokr", "lokr"),
        ("caption_ext: txt", "flip_x: true", "flip_x"),
        ("type: sd_trainer", "type: image_generator", "image_generator"),
        ("job: extension", "job: generate", "generate"),
        ("${PLACE}", "${NOWHERE}", "NOWHERE"),
        ("lr: 2e-4", "resolution: 512", "belongs into datasets"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path, old, new, match):
    with pytest.raises(BadConfig, match=match):
        read_ai_toolkit(write(tmp_path, **{old: new}))


def test_json_is_read_too(tmp_path):
    tree = {"job": "extension", "config": {"name": "x", "process": [{"type": "sd_trainer"}]}}
    path = tmp_path / "job.json"
    path.write_text(json.dumps(tree))
    assert read_ai_toolkit(path).config.train.lora.rank == 4
    path.write_text("{")
    with pytest.raises(BadConfig, match="is not JSON"):
        read_ai_toolkit(path)


def test_the_published_file_is_honoured_key_by_key(reference):
    said = explain(reference / "movie-shots.yml")
    assert {explained.status for explained in said.values()} <= {
        "honoured", "approximated", "ignored upstream",
    }  # fmt: skip
    config = read_ai_toolkit(reference / "movie-shots.yml").config
    assert config.train.lora.rank == 16
    assert config.train.optimizer.name == "adamw8bit"
    assert config.train.optimizer.ema_decay == 0.99
    assert config.train.batch == 4
    assert config.train.keep_checkpoints == 4
    assert config.data.resolutions == (512, 768, 1024, 1280, 1536)
    assert config.data.caption_dropout == 0.05
    assert (config.layout.width, config.layout.height) == (1024, 1536)
    assert len(config.sample.prompts) == 2


def test_export_is_a_folder_that_the_reader_honours(store, publish, paint, tmp_path, config):
    samples = [paint(0), paint(1, masks=[(0, 0, 8, 4)]), paint(2, split="val")]
    name = publish(store, samples)
    plain = with_train(config, batch=3)
    file = export_ai_toolkit(open_dataset(store, name), tmp_path / "out", plain)
    names = sorted(path.name for path in (tmp_path / "out" / "data").iterdir())
    assert names == ["set-000.png", "set-000.txt", "set-001.png", "set-001.txt"]
    assert (tmp_path / "out" / "data" / "set-001.txt").read_text() == samples[1].text

    from PIL import Image

    mask = Image.open(tmp_path / "out" / "masks" / "set-001.png")
    assert [mask.getpixel(place) for place in ((7, 3), (8, 3), (7, 4))] == [0, 255, 255]
    statuses = {key: said.status for key, said in explain(file).items()}
    assert not [key for key, status in statuses.items() if status in {"unknown", "refused"}]
    back = read_ai_toolkit(file).config
    assert back.train.batch == 3
    assert back.train.steps == plain.train.steps
    assert back.train.optimizer == plain.train.optimizer
    assert back.base.model == plain.base.model
    with pytest.raises(BadInput, match="not empty"):
        export_ai_toolkit(open_dataset(store, name), tmp_path / "out", plain)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("flux1-dev", {"train.optimizer.lr_schedule": "linear"}),
        ("flux1-dev", {"train.noise.sampler": "uniform", "train.weights": "fp8"}),
        ("flux2-klein-4b", {"train.optimizer.warmup_steps": 10}),
        ("flux1-schnell", {"train.training_adapter": "a.safetensors"}),
        ("flux1-dev", {"train.lora.start_from": "b.safetensors"}),
    ],
)
def test_ai_toolkit_reads_every_key_that_is_exported(
    store, publish, paint, tmp_path, base, changes
):
    """Against the keys that its own config classes read; they were also run on such a file."""
    known = upstream_keys()
    name = publish(store, [paint(0, masks=[(0, 0, 8, 4)])])
    config = load_config("movie-shots", changes, base=base)
    file = export_ai_toolkit(open_dataset(store, name), tmp_path / "out", config, name="mine")
    tree = yaml.safe_load(file.read_text())
    assert (file.name, tree["config"]["name"]) == ("mine.yml", "mine")
    (process,) = tree["config"]["process"]
    sections = {"": process, "train.ema_config": process["train"]["ema_config"]}
    sections |= {name: part for name, part in process.items() if isinstance(part, dict)}
    sections["datasets"] = process["datasets"][0]
    assert len(sections) == 9
    for section, part in sections.items():
        assert set(part) <= set(known[section]), section
    back = read_ai_toolkit(file).config
    assert back.train.optimizer == config.train.optimizer
    assert back.train.noise == config.train.noise
    assert back.train.training_adapter == config.train.training_adapter


def test_upstreams_linear_schedule_rises_and_is_refused(tmp_path):
    text = FILE.replace("batch_size: 2", "batch_size: 2\n        lr_scheduler: linear")
    with pytest.raises(BadConfig, match="rises from a third"):
        read_ai_toolkit(write(tmp_path, text))
    falling = "lr_scheduler_params: {start_factor: 1.0, end_factor: 0.0}"
    text = text.replace("lr_scheduler: linear", f"lr_scheduler: linear\n        {falling}")
    assert read_ai_toolkit(write(tmp_path, text)).config.train.optimizer.lr_schedule == "linear"
    text = text.replace("end_factor: 0.0", "end_factor: 0.1")
    with pytest.raises(BadConfig, match="rises from a third"):
        read_ai_toolkit(write(tmp_path, text))


def test_a_key_that_only_ai_toolkit_has_is_not_called_a_typo(tmp_path):
    text = FILE.replace("batch_size: 2", "batch_size: 2\n        noise_multiplier: 1.1")
    said = explain(write(tmp_path, text))["config.process.0.train.noise_multiplier"]
    assert said.status == "refused"
    assert "AI-Toolkit reads it" in said.note
    with pytest.raises(BadConfig, match=r"train\.noise_multiplier"):
        read_ai_toolkit(write(tmp_path, text))


def test_every_rule_is_about_a_key_that_ai_toolkit_reads():
    for section, rules in SECTIONS.items():
        read = {key for key, rule in rules.items() if rule.status != "ignored upstream"}
        elsewhere = {"sqlite_db_path"} if section == "" else set()  # read by the UI's trainer
        assert read <= set(upstream_keys()[section]) | elsewhere, section


def test_no_masks_no_mask_folder(store, publish, paint, tmp_path):
    file = export_ai_toolkit(open_dataset(store, publish(store, [paint(0)])), tmp_path / "out")
    assert not (tmp_path / "out" / "masks").exists()
    (process,) = yaml.safe_load(file.read_text())["config"]["process"]
    assert "mask_path" not in process["datasets"][0]


def test_the_published_file_trains_on_the_published_sets(
    store, publish, paint, reference, tiny_flux
):
    from PIL import Image

    samples = []
    for number, file in enumerate(sorted((reference / "movie-shots").glob("*.jpg"))):
        width, height = Image.open(file).size
        third = height // 3
        drawn = paint(number, heights=(third, third, height - 2 * third), width=width)
        text = file.with_suffix(".txt").read_text().strip()
        samples.append(drawn._replace(image=file.read_bytes(), extension="jpg", text=text))
    changes = [
        f"base.model={tiny_flux}", "train.steps=6", "data.resolutions=[64]", "train.batch=2",
        "train.optimizer.name=adamw", "train.sample_every=0", "train.save_every=6",
    ]  # fmt: skip
    name = publish(store, samples)
    asked = read_ai_toolkit(reference / "movie-shots.yml", changes[:4]).config
    with pytest.raises(BadConfig, match="pip install bitsandbytes"):
        train_adapter(store, name, asked, "eight")
    job = read_ai_toolkit(reference / "movie-shots.yml", changes)
    assert (job.config.train.weights, job.config.train.precision) == ("fp8", "bf16")
    ref = train_adapter(store, name, job.config, job.name)
    assert (ref.name, ref.steps) == ("movie-shots", 6)
    rows = read_metrics(Path(ref.url) / "metrics.jsonl")
    assert all(row["loss"] > 0 for row in rows if "loss" in row)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda text: text + "# caf\xe9\n".encode("latin-1"), "is not YAML: 'utf-8' codec"),
        (lambda text: text + b"\tx: 1\n", r"is not YAML: .*, line \d+, column \d+"),
        (lambda text: text.replace(b"config:", b"config: [", 1), "is not YAML"),
        (lambda text: text.replace(b"lr: ", b"lr: 2030-01-01 #", 1), "2030-01-01"),
        (lambda text: text.replace(b"meta: {", b"meta: [{", 1).rstrip() + b"]", "meta is a table"),
        (
            lambda text: text.replace(b"datasets:", b"datasets: [null]\n      x:", 1),
            "datasets.0 is",
        ),
        (lambda _: b"config: {process: [sd_trainer]}", "must be a list of one process"),
        (lambda _: b"config: {process: {type: sd_trainer}}", "must be a list of one process"),
    ],
)
def test_a_file_that_is_no_yaml_is_one_sentence(tmp_path, change, sentence):
    path = write(tmp_path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BadConfig, match=sentence) as caught:
        read_ai_toolkit(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "value", "sentence"),
    [
        ("sample", {"prompts": 3}, "3 is nothing that it can be"),
        ("sample", {"width": "wide"}, "sample.width is a number of pixels, not a text"),
        ("sample", {"width": [1]}, "sample.width is a number of pixels"),
        ("train", {"ema_config": "on"}, "ema_config"),
        ("train", {"ema_config": {"use_ema": True, "ema_decay": "slow"}}, "ema_decay = a text"),
    ],
)
def test_a_value_of_another_kind_is_one_sentence(tmp_path, section, value, sentence):
    path = write(tmp_path)
    tree = yaml.safe_load(path.read_text())
    tree["config"]["process"][0].setdefault(section, {}).update(value)
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(BadConfig, match=sentence) as caught:
        read_ai_toolkit(path)
    assert "\n" not in str(caught.value)


SECRET = "hf_Zx9s3cr3tZx9s3cr3t"  # noqa: S105 - of nobody
PLAIN = "correct-horse-battery"


def sections(tree):
    process = tree["config"]["process"][0]
    return {"": process, "config": tree["config"], "file": tree, "meta": tree["meta"]} | {
        name: part for name, part in process.items() if isinstance(part, dict)
    }


def with_value(tree, path, value):
    *above, key = path.split(".")
    here = tree
    for name in above:
        here = here[int(name) if name.isdigit() else name]
    here[int(key) if key.isdigit() else key] = value


def told(tmp_path, tree):
    """Everything that the reader and ``iclora explain`` say of a file."""
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    texts = []
    for read in (read_ai_toolkit, explain):
        try:
            said = read(path)
        except BadConfig as error:
            texts.append(str(error))
        else:
            shown = {key: one.to_json() for key, one in said.items()} if read is explain else ""
            texts.append(str(shown))
    return texts


@pytest.mark.parametrize("secret", [PLAIN, [SECRET], {PLAIN: SECRET}])
@pytest.mark.parametrize(
    "path",
    [
        "job",
        "config.process.0.type",
        "config.process.0.model.name_or_path",
        "config.process.0.model.arch",
        "config.process.0.model.assistant_lora_path",
        "config.process.0.model.qtype",
        "config.process.0.network.type",
        "config.process.0.network.linear",
        "config.process.0.network.network_kwargs",
        "config.process.0.save.dtype",
        "config.process.0.save.save_every",
        "config.process.0.train.optimizer",
        "config.process.0.train.optimizer_params",
        "config.process.0.train.lr",
        "config.process.0.train.lr_scheduler",
        "config.process.0.train.lr_scheduler_params",
        "config.process.0.train.timestep_type",
        "config.process.0.train.noise_scheduler",
        "config.process.0.train.ema_config",
        "config.process.0.train.ema_config.ema_decay",
        "config.process.0.train.ema_config.use_feedback",
        "config.process.0.train",
        "config.process.0.datasets.0.resolution",
        "config.process.0.datasets.0.caption_ext",
        "config.process.0.datasets.0",
        "config.process.0.sample",
        "config.process.0.sample.width",
        "config.process.0.sample.prompts",
        "config.process.0.sample.seed",
        "config.process",
        "config",
        "meta",
        "config.process.0.train.no_such_key",
        "config.no_such_key",
        "no_such_key",
    ],
)
def test_no_value_that_is_refused_is_told(tmp_path, path, secret):
    tree = yaml.safe_load(FILE)
    with_value(tree, path, secret)
    for text in told(tmp_path, tree):
        assert "s3cr3t" not in text
        assert "correct" not in text
        assert "\n" not in text


@pytest.mark.parametrize(
    "secret", [SECRET, "sk-" + "a" * 30, "Hunter2hunter2", "AKIAIOSFODNN7EXAMPLE"]
)
@pytest.mark.parametrize("section", ["", "config", "file", "meta", "train", "network", "sample"])
def test_no_key_that_may_be_a_secret_is_told(tmp_path, section, secret):
    tree = yaml.safe_load(FILE)
    sections(tree)[section][secret] = True
    texts = told(tmp_path, tree)
    assert not [text for text in texts if secret in text]
    number = len(sections(tree)[section])
    assert f"(key {number})" in texts[1]


def test_what_a_person_wrote_is_told_where_it_is_no_secret(tmp_path):
    tree = yaml.safe_load(FILE)
    with_value(tree, "config.process.0.train.optimizer", "adamw8bitt")
    assert (
        "train.optimizer a text is not supported; known are adamw, adamw8bit; did you mean "
        in (told(tmp_path, tree)[0])
    )
    with_value(tree, "config.process.0.train.optimizer", "prodigy")
    assert "train.optimizer 'prodigy' is not supported" in told(tmp_path, tree)[0]
    with_value(tree, "config.process.0.train.optimizer", 8)
    assert "train.optimizer 8 is not supported" in told(tmp_path, tree)[0]


@pytest.mark.parametrize(
    "text",
    [
        "some-model", SECRET, f"{SECRET}=", "https://me:hunter2@host/model",
    ],
)  # fmt: skip
def test_a_base_that_is_no_place_is_refused_without_telling_it(tmp_path, text):
    tree = yaml.safe_load(FILE)
    with_value(tree, "config.process.0.model.name_or_path", text)
    (said, _) = told(tmp_path, tree)
    assert "neither a path here nor a hub id" in said
    assert text not in said


@pytest.mark.parametrize(
    "text", ["owner/name", "./model", "/models/flux", "~/flux", "models/flux/dev", "C:\\flux"]
)
def test_a_base_that_looks_like_a_place_is_taken(tmp_path, text):
    tree = yaml.safe_load(FILE)
    with_value(tree, "config.process.0.model.name_or_path", text)
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump(tree))
    assert read_ai_toolkit(path).config.base.model == text


def test_a_secret_among_the_notes_is_not_written_into_adapters(tmp_path):
    tree = yaml.safe_load(FILE)
    tree["meta"]["where"] = f"https://me:hunter2@host/ {SECRET}"
    path = tmp_path / "job.yml"
    path.write_text(yaml.safe_dump(tree))
    assert read_ai_toolkit(path).config.train.lora.metadata["where"] == "https://***@host/ ***"


LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40)
)


@pytest.mark.parametrize(
    "text",
    [
        f"{LAUGHS}{FILE}",
        f"{FILE}\nx: &x [*x]\n",
        f"{FILE}\nx: &x {{y: *x}}\n",
        FILE.replace("meta: {", "meta: {z: &z [*z], "),
        FILE.replace("steps: 300", f"steps: {'[' * 500}{']' * 500}"),
        FILE.replace("steps: 300", f"steps: {'[' * 50}{']' * 50}"),
        FILE.replace("steps: 300", f"steps: {'9' * 40}"),
        FILE.replace("steps: 300", f"steps: {'9' * 5000}"),
        FILE.replace("steps: 300", "3: 4"),
        FILE.replace("steps: 300", "on: 4"),
        FILE.replace("steps: 300", "? [a]\n        : 4"),
        FILE + "#" * (2 << 20),
        f"{FILE}\nx: *{SECRET}\n",
        f"{FILE}\nx: !{SECRET} y\n",
    ],
)
def test_a_file_that_no_person_writes_is_one_sentence(tmp_path, text):
    path = tmp_path / "job.yml"
    path.write_text(text)
    for read in (read_ai_toolkit, explain):
        if "9" * 40 in text and "9" * 50 not in text and read is explain:
            continue  # a number is a number
        with pytest.raises(BadConfig) as caught:
            read(path)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        assert "s3cr3t" not in str(caught.value)


def test_json_too_deep_is_one_sentence(tmp_path):
    path = tmp_path / "job.json"
    path.write_text("[" * 100_000)
    with pytest.raises(BadConfig, match="is not JSON"):
        read_ai_toolkit(path)
