"""What every command promises: its options, its exit status, one JSON object on stdout."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from iclora.build import build_dataset
from iclora.cli.app import COMMANDS, make_app, run
from iclora.cli.console import MINIATURE_NOTE
from iclora.presets import load_config
from schemas.adapter import RunRecord
from schemas.config import Config

FROZEN = {
    "build": {"--base", "--preset", "--name", "--store", "--set", "--review"},
    "verify": {"--store"},
    "review": {"--store", "--out", "-o"},
    "train": {
        "--base",
        "--preset",
        "--config",
        "--ai-toolkit",
        "--name",
        "--store",
        "--set",
        "--resume",
        "--dry-run",
    },
    "sample": {
        "--captions",
        "--task",
        "--adapter",
        "--panel",
        "--seed",
        "--count",
        "--base",
        "--preset",
        "--set",
        "--store",
        "--out",
        "-o",
    },
    "evaluate": {"--against", "--dataset", "--promote", "--repin", "--store", "--set"},
    "promote": {"--store", "--undo", "--force"},
    "demo": {"--store"},
    "push": {"--kind", "--store"},
    "inspect": {"--store"},
    "shots": {"--detector", "--base", "--preset", "--set"},
    "lint-captions": {"--task", "--base", "--preset", "--set", "--store"},
    "explain": set(),
    "export-ai-toolkit": {"--base", "--preset", "--set", "--store"},
    "gc": {"--store", "--caches", "--dry-run"},
    "doctor": {"--base", "--preset", "--set", "--store"},
}
"""Options are interface: one is added here on purpose or not at all."""

LOOSE = {"filter.max_set_similarity": 1.0, "filter.quality.min_sharpness": 0.0}
TINY = ("--preset", "miniature")

HEAVY = (
    "torch",
    "prefect",
    "datasets",
    "pyarrow",
    "transformers",
    "diffusers",
    "numpy",
    "pydantic",
)


class Said(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def iclora(*arguments: object) -> Said:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = run([str(one) for one in arguments])
    return Said(status, out.getvalue(), err.getvalue())


def options_of() -> dict[str, set[str]]:
    import typer

    group = typer.main.get_command(make_app())
    return {
        name: {option for param in command.params for option in param.opts if option[0] == "-"}
        for name, command in group.commands.items()
    }


def test_the_options_are_frozen():
    assert options_of() == {name: {*options, "--json"} for name, options in FROZEN.items()}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda one: one.__name__)
def test_every_command_has_help(command):
    said = iclora(command.__name__.replace("_", "-"), "--help")
    assert said.status == 0
    assert inspect.getdoc(command) in said.out


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom iclora.cli.app import run\nassert run(['--help']) == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "lint-captions" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), ""),
        (("explode",), "No such command 'explode'"),
        (("verify",), "Missing argument 'DATASET'"),
        (("verify", "films", "--nope"), "No such option: --nope"),
        (("verify", "films", "--store", "foo://x"), "--store foo://x: Protocol not known: foo"),
        (
            ("build", "x"),
            "no preset: name a task and a base model, such as --preset movie-shots --base",
        ),
        (
            ("build", "x", "--preset", "movie-shots-flux1-dev"),
            "--preset movie-shots --base flux1-dev",
        ),
        (
            ("build", "x", "--preset", "miniature", "--base", "flux1-dev"),
            "miniature names a base model itself",
        ),
        (("build", "x", "--base", "movie-shots"), "movie-shots names no base model; bases are"),
        (("build", "no-such.mp4", *TINY), "no-such.mp4"),
        (("build", "x", "--preset", "movieshots"), "no preset 'movieshots'; did you mean movie"),
        (
            ("build", "x", "--set", "filter.max_set=3", *TINY),
            "unknown key filter.max_set; did you mean",
        ),
        (("build", "x", "--set", "filter.max_sets=-3", *TINY), "filter.max_sets = -3"),
        (("build", "x", "--review", "none.csv", *TINY), "none.csv cannot be read"),
        (("shots", "none.mp4"), "none.mp4"),
        (("shots", "none.mp4", "--detector", "magic"), "ingest.shots.detector = 'magic'"),
        (("lint-captions", "none"), "none"),
        (("inspect", "none"), "none is no dataset, adapter or report"),
        (("review", "none"), "no dataset 'none'"),
        (("promote", "none"), "no adapter 'none'"),
        (("train", "none"), "no dataset 'none'"),
        (("train", "none", "--config", "none.json"), "--config none.json: No such file"),
        (("train", "films", "--name", "Short"), "'Short' cannot be an adapter's name: use up"),
        (("train", "films", "--name", "short film", "--dry-run"), "'short film' cannot be an"),
        (
            ("build", "x.mp4", "--name", "Short", *TINY),
            "'Short' cannot be a dataset's name: use up",
        ),
        (("evaluate", "none"), "no adapter 'none'"),
        (("evaluate", "Short"), "no adapter 'Short'"),
        (("train", "x", "--config", "a", "--ai-toolkit", "b"), "both say what to train"),
        (("train", "x", "--ai-toolkit", "none.yml"), "none.yml"),
        (("explain", "none.yml"), "none.yml"),
        (("export-ai-toolkit", "none", "dir"), "no dataset 'none'"),
        (("push", "none", "me/films"), "no dataset or adapter 'none'"),
        (("push", "none", "me/films", "--kind", "film"), "--kind is dataset or adapter"),
        (("sample", "base", "x"), "no preset: name a task and a base model"),
        (("sample", "base", *TINY), "give a CAPTION"),
        (("sample", "base", "x", "--panel", "1", *TINY), "--panel takes I=IMAGE, not '1'"),
        (("sample", "base", "x", "--set", "sample", *TINY), "--set takes section.key=value"),
    ],
)
def test_a_users_mistake_is_one_sentence(tmp_path, monkeypatch, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    said = iclora(*arguments)
    assert said.status == 2
    assert "Traceback" not in said.err
    if arguments:
        last = said.err.strip().splitlines()[-1]
        assert last.startswith("iclora: ")
        assert sentence in last
        told = iclora(*arguments, "--json")
        assert told.status == 2
        assert sentence in told.json["error"]


def test_paths_that_may_not_be_written(published, tmp_path):
    store, _ = published
    (tmp_path / "file").write_text("in the way")
    said = iclora("review", "films", "--store", store.root, "-o", tmp_path / "file")
    assert said.status == 2
    assert "file" in said.err


def test_verify_inspect_lint_and_review(published, tmp_path):
    store, ref = published
    said = iclora("verify", "films", "--store", store.root, "--json")
    assert said.status == 0
    assert said.json == {"ok": True, "samples": 3, "problems": []}
    assert "sound, 3 samples" in iclora("verify", "films", "--store", store.root).out

    known = iclora("inspect", "films", "--store", store.root, "--json").json
    assert known["dataset"]["version"] == ref.version
    for_people = iclora("inspect", ref.url).out
    assert f"films@{ref.version} (a preview)" in for_people
    assert for_people.index("| sources |") < for_people.index("| ingest |")

    said = iclora("lint-captions", "films", "--store", store.root, "--json")
    assert said.status == 0
    assert said.json == {"captions": 3, "broken": {}}

    made = iclora("review", "films", "--store", store.root, "-o", tmp_path, "--json").json
    assert made["samples"] == 3
    assert Path(made["page"]).is_file()


def test_a_broken_dataset_is_a_failure(published):
    store, ref = published
    path = Path(ref.url) / "train-000000.tar"
    data = bytearray(path.read_bytes())
    data[700] ^= 1
    path.write_bytes(data)
    said = iclora("verify", "films", "--store", store.root, "--json")
    assert said.status == 1
    assert not said.json["ok"]
    first = said.json["problems"][0]
    assert set(first) == {"key", "shard", "problem"}
    assert first["key"] in said.err.splitlines()[0]


def test_lint_captions_of_a_file(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("no markers\n", encoding="utf-8")
    said = iclora("lint-captions", path, "--json")
    assert said.status == 1
    assert "prefix_missing" in said.json["broken"]["line 1"]
    said = iclora("lint-captions", path, "--task", "couple-profile", "--json")
    assert "prefix_missing" not in said.json["broken"]["line 1"]


def test_explain_and_export(published, tmp_path):
    store, _ = published
    folder = tmp_path / "toolkit"
    made = iclora("export-ai-toolkit", "films", folder, "--store", store.root, "--json").json
    assert made["samples"] == 3
    assert len(list((folder / "data").glob("*.txt"))) == 3
    keys = iclora("explain", made["config"], "--json").json["keys"]
    assert keys["config.process.0.train.lr"]["status"] == "honoured"
    assert "train.lr" in iclora("explain", made["config"]).out
    again = iclora("export-ai-toolkit", "films", folder, "--store", store.root)
    assert again.status == 2
    assert "is not empty" in again.err


def test_a_dry_run_of_training(published):
    store, _ = published
    said = iclora("train", "films", "--store", store.root, "--dry-run", "--json")
    assert said.status == 0
    assert said.json["samples"] == 3
    assert not store.exists("adapters")
    assert "3 samples" in iclora("train", "films", "--store", store.root, "--dry-run").out


def test_training_asks_for_a_preset_unless_the_dataset_is_the_demos(published, tmp_path):
    store, _ = published
    own = tmp_path / "own.toml"
    own.write_text('extends = ["miniature"]\n')
    build_dataset(store, [str(tmp_path / "sets")], load_config(str(own), LOOSE), "mine")
    dry = ("--store", store.root, "--dry-run", "--json")
    assert iclora("train", "films", *dry).status == 0
    assert "no preset: name a task and a base" in iclora("train", "mine", *dry).json["error"]
    assert iclora("train", "mine", "--preset", own, *dry).status == 0
    real = iclora("train", "mine", "--preset", "movie-shots", "--base", "flux1-dev", *dry)
    assert real.json["base"].startswith("black-forest-labs/FLUX.1-dev")


def test_a_name_that_an_adapter_cannot_have(published):
    store, _ = published
    said = iclora("train", "films", "--name", "short film", "--store", store.root)
    assert said.status == 2
    assert said.err.splitlines()[-1].startswith("iclora: 'short film' cannot be an adapter's name")
    assert not store.exists("adapters")


def test_gc(published):
    store, _ = published
    store.write("stages/sets/0123/manifest.json", b"{}")
    said = iclora("gc", "--store", store.root, "--dry-run", "--json")
    assert said.json["removed"] == ["stages/sets/0123"]
    assert iclora("gc", "--store", store.root).out.endswith("1 places, 0.0 MiB removed\n")
    assert iclora("gc", "--store", store.root, "--json").json["removed"] == []


def test_doctor_says_what_is_missing(tmp_path):
    said = iclora(
        "doctor",
        "--store",
        tmp_path,
        "--set",
        "filter.clip=owner/no-such-model",
        "--set",
        "stitch.face_model=/nowhere/yunet.onnx",
        "--json",
    )
    assert said.status == 1
    checks = {check["name"]: check for check in said.json["checks"]}
    assert all(set(check) == {"name", "ok", "fix"} for check in checks.values())
    assert "owner/no-such-model" in checks["clip: owner/no-such-model"]["fix"]
    assert not checks["faces: /nowhere/yunet.onnx"]["ok"]
    assert checks[f"{tmp_path} is writable"] == {
        "name": f"{tmp_path} is writable",
        "ok": True,
        "fix": "",
    }


def test_shots(film):
    from iclora.miniature.film import read_truth

    said = iclora("shots", film, "--json")
    truth = read_truth(film)
    assert said.status == 0
    assert said.json["frames"] == truth.frames
    assert len(said.json["cuts"]) == len(said.json["seconds"]) > 3
    assert str(said.json["cuts"][0]) in iclora("shots", film).out


def test_promote_and_back(store):
    for version in ("aa11", "bb22"):
        run = RunRecord(
            name="film",
            version=version,
            dataset="films",
            base="flux",
            config=Config(),
            steps=1,
            loss=0.1,
            seconds=1.0,
        )
        store.write(f"adapters/film/{version}/run.json", run.to_text().encode())
        store.write("adapters/film/LATEST", f"{version}\n".encode())
    said = iclora("promote", "film@aa11", "--store", store.root, "--json")
    assert said.status == 2
    assert said.json["error"].startswith("film@aa11 was never evaluated")
    assert iclora("promote", "film@aa11", "--force", "--store", store.root, "--json").json == {
        "adapter": "film",
        "champion": "aa11",
    }
    second = iclora("promote", "film", "--force", "--store", store.root, "--json")
    assert second.json["champion"] == "bb22"
    undone = iclora("promote", "film", "--undo", "--store", store.root, "--json")
    assert undone.json["champion"] == "aa11"


def test_the_first_line_says_that_the_miniature_is_used(tmp_path):
    said = iclora("build", tmp_path / "none.mp4", "--store", tmp_path, *TINY)
    assert said.err.splitlines()[0] == MINIATURE_NOTE
    said = iclora("build", tmp_path / "none.mp4", "--store", tmp_path, *TINY, "--json")
    assert said.err.splitlines()[0] == MINIATURE_NOTE
    real = ("--set", "filter.clip=a/b", "--set", "caption.captioner.kind=server")
    said = iclora("build", tmp_path / "none.mp4", "--store", tmp_path, *TINY, *real)
    assert MINIATURE_NOTE not in said.err


def test_what_libraries_print_does_not_reach_stdout(published, monkeypatch):
    from iclora.dataset import verify as room

    plain = room.verify_dataset

    def chatty(dataset):
        print("Loading weights...")
        return plain(dataset)

    monkeypatch.setattr(room, "verify_dataset", chatty)
    said = iclora("verify", "films", "--store", published[0].root, "--json")
    assert said.json["ok"]
    assert "Loading weights..." in said.err


def test_python_m_iclora():
    done = subprocess.run(
        [sys.executable, "-m", "iclora", "verify", "none", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith("no dataset 'none'")
