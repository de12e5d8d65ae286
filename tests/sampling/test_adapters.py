from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from iclora.errors import BadInput, MissingModel
from iclora.sampling.adapters import applied, find_stored, locate_adapter
from iclora.sampling.render import render_requests
from iclora.sampling.render_records import RenderRequest
from iclora.sampling.sampler import load_sampler
from schemas.adapter import RunRecord
from schemas.sampling import AdapterUse


@pytest.fixture
def stored(store, config, write_lora):
    """``film`` with two versions: v1 conditional and champion, v2 latest."""
    for version, conditional in (("v1", 0.5), ("v2", 0.0)):
        folder = Path(store.root) / "adapters" / "film" / version
        write_lora(folder / "film.safetensors", seed=len(version) + ord(version[1]))
        train = config.train.model_copy(update={"conditional_probability": conditional})
        run = RunRecord(
            name="film",
            version=version,
            dataset="scenes@1",
            base="flux",
            config=config.model_copy(update={"train": train}),
            steps=1,
            loss=0.1,
            seconds=1.0,
        )
        (folder / "run.json").write_text(run.to_text())
    store.write("adapters/film/LATEST", b"v2\n")
    return store


@pytest.mark.parametrize(
    ("text", "name", "weight"),
    [
        ("film", "film@v2", 1.0),
        ("film@v1", "film@v1", 1.0),
        ("film:0.8", "film@v2", 0.8),
        ("film@v1:-1", "film@v1", -1.0),
        ("film:.5", "film@v2", 0.5),
    ],
)
def test_a_stored_adapter_by_name_version_and_weight(stored, text, name, weight):
    use = locate_adapter(stored, text)
    assert (use.name, use.weight) == (name, weight)
    assert use.conditional == (name == "film@v1")
    assert Path(use.file).is_file()


def test_the_champion_by_name(stored):
    with pytest.raises(BadInput, match="has no champion yet"):
        locate_adapter(stored, "film@champion")
    stored.write("adapters/film/CHAMPION", b"v1\n")
    assert locate_adapter(stored, "film@champion").name == "film@v1"


def test_a_version_that_is_not_there_names_those_that_are(stored):
    with pytest.raises(BadInput, match="has no film@v9; it has v1, v2"):
        locate_adapter(stored, "film@v9")


def test_nothing_of_that_name(stored):
    assert find_stored(stored, "other") is None
    with pytest.raises(BadInput, match="is no file or folder, no adapter"):
        locate_adapter(stored, "other")


def test_a_file_and_a_folder_by_path(stored, tmp_path, write_lora):
    file = write_lora(tmp_path / "mine" / "storyboard.safetensors")
    assert locate_adapter(stored, str(file)).name == "storyboard"
    assert locate_adapter(stored, f"{file.parent}:0.3").weight == 0.3
    write_lora(tmp_path / "mine" / "second.safetensors")
    with pytest.raises(BadInput, match=r"holds 2 safetensors files \(second.*storyboard"):
        locate_adapter(stored, str(file.parent))
    folder = f"{stored.root}/adapters/film/v1"
    assert locate_adapter(stored, folder).conditional
    assert Path(locate_adapter(stored, folder).file).name == "film.safetensors"


def test_equal_files_have_equal_digests(stored, tmp_path, write_lora):
    one, same = write_lora(tmp_path / "a.safetensors"), write_lora(tmp_path / "b.safetensors")
    other = write_lora(tmp_path / "c.safetensors", seed=2)
    uses = [locate_adapter(stored, str(file)) for file in (one, same, other)]
    assert uses[0].content == uses[1].content != uses[2].content


def test_pickled_weights_are_refused(stored, tmp_path):
    file = tmp_path / "lora.bin"
    file.write_bytes(b"\x80\x04.")
    with pytest.raises(BadInput, match="not a safetensors file"):
        locate_adapter(stored, str(file))


@pytest.mark.parametrize("name", ["someone/nothing/film.safetensors", "someone/nothing"])
def test_a_hub_adapter_that_is_not_here_says_how_to_get_it(stored, name):
    with pytest.raises(MissingModel, match="hf download someone/nothing"):
        locate_adapter(stored, name)


def use_of(file, weight=1.0):
    return AdapterUse(name=file.stem, file=str(file), content=file.stem, weight=weight)


@pytest.fixture
def drawn(config, captions, tmp_path):
    """Draws one caption with adapters and gives the pixels."""

    def draw(*uses):
        (record,) = render_requests(
            [RenderRequest(captions[0], 1)], config, tmp_path / "out", adapters=uses
        )
        return np.asarray(Image.open(tmp_path / "out" / record.canvas), np.int16)

    return draw


def test_an_adapter_changes_the_picture_by_its_weight(drawn, tmp_path, write_lora):
    file = write_lora(tmp_path / "a.safetensors", scale=1.0)
    bare, none, half, full = drawn(), *(drawn(use_of(file, w)) for w in (0.0, 0.5, 1.0))
    assert np.abs(none - bare).max() <= 1
    assert np.abs(full - bare).mean() > np.abs(half - bare).mean() > 0


def test_the_base_is_bare_again_afterwards(config, captions, tmp_path, write_lora):
    first = render_requests([RenderRequest(captions[0], 1)], config, tmp_path / "before")
    worn = [use_of(write_lora(tmp_path / "a.safetensors"))]
    render_requests([RenderRequest(captions[0], 1)], config, tmp_path / "worn", adapters=worn)
    render_requests([RenderRequest(captions[0], 1)], config, tmp_path / "after")
    name = first[0].canvas
    assert (tmp_path / "before" / name).read_bytes() == (tmp_path / "after" / name).read_bytes()


def test_two_adapters_add_up(drawn, tmp_path, write_lora):
    """The same changes at half weight twice are the changes at full weight."""
    one, two = (write_lora(tmp_path / f"{name}.safetensors") for name in "ab")
    assert np.abs(drawn(use_of(one, 0.5), use_of(two, 0.5)) - drawn(use_of(one))).max() <= 1


def test_kohyas_layout_draws_the_same(drawn, tmp_path, write_lora):
    """Only the rank-down and rank-up names differ; alpha equals rank."""
    file = write_lora(tmp_path / "a.safetensors", scale=1.0)
    weights = load_file(file)
    kohya = {}
    for name, value in weights.items():
        module, part = name.removeprefix("transformer.").rsplit(".lora_", 1)
        down = part.startswith("A")
        kohya[f"{module}.lora.{'down' if down else 'up'}.weight"] = value
    other = tmp_path / "b.safetensors"
    save_file({f"transformer.{name}": value for name, value in kohya.items()}, other)
    assert np.abs(drawn(use_of(other)) - drawn(use_of(file))).max() <= 1


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_beside_weights_in_8_bits_an_adapter_keeps_its_values(
    config, tmp_path, write_lora, precision
):
    sampler = load_sampler(config.base.model, config.base.family, "fp8", precision)
    files = [write_lora(tmp_path / f"{n}.safetensors", seed=n) for n in range(2)]
    with applied(sampler.transformer, [use_of(file, 0.5) for file in files], sampler.family):
        live = dict(sampler.transformer.named_parameters())
    for number, file in enumerate(files):
        for name, value in load_file(file).items():
            layer, part, _ = name.removeprefix("transformer.").rsplit(".", 2)
            held = live[f"{layer}.{part}.adapter_{number}.weight"]
            dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
            assert held.dtype == dtype
            assert torch.equal(held, value.to(dtype))


def test_a_lora_of_another_base_is_refused_and_leaves_the_base_bare(
    drawn, tmp_path, write_lora, config
):
    weights = load_file(write_lora(tmp_path / "a.safetensors"))
    wrong = {
        name: torch.zeros(value.shape[0] + 1, value.shape[1]) for name, value in weights.items()
    }
    save_file(wrong, tmp_path / "wrong.safetensors")
    bare = drawn()
    with pytest.raises(BadInput, match="wrong is no LoRA of this base"):
        drawn(use_of(tmp_path / "wrong.safetensors"))
    (tmp_path / "out").rename(tmp_path / "old")
    assert (drawn() == bare).all()


def test_a_file_without_weights_for_the_transformer_is_refused(drawn, tmp_path, write_lora):
    text_only = write_lora(tmp_path / "text.safetensors", prefix="text_encoder.")
    with pytest.raises(BadInput, match="text"):
        drawn(use_of(text_only))


def test_a_file_some_of_whose_layers_this_base_lacks_is_refused(drawn, tmp_path, write_lora):
    """The others would fit: FLUX.2 klein's adapters share names and widths with FLUX.1's."""
    weights = load_file(write_lora(tmp_path / "a.safetensors"))
    moved = {name.replace(".to_v.", ".to_qkv."): value for name, value in weights.items()}
    save_file(moved, tmp_path / "moved.safetensors")
    with pytest.raises(BadInput, match=r"moved is no LoRA.*lacks 2 of the 4 layers.*\.to_qkv$"):
        drawn(use_of(tmp_path / "moved.safetensors"))


def test_a_file_that_is_cut_short_is_refused(drawn, tmp_path, write_lora):
    file = write_lora(tmp_path / "cut.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(BadInput, match=r"cut\.safetensors is no LoRA of this base"):
        drawn(use_of(file))


def test_given_panels_enter_as_the_adapter_was_trained(config, captions, tmp_path, write_lora):
    file = write_lora(tmp_path / "a.safetensors")
    given = {0: Image.new("RGB", (32, 32), (200, 30, 30))}
    ways = {}
    for conditional in (False, True):
        use = use_of(file).model_copy(update={"conditional": conditional})
        request = RenderRequest(captions[0], 1, given)
        (record,) = render_requests([request], config, tmp_path / "out", adapters=[use])
        ways[conditional] = record.way
    assert ways == {False: "put-back 1", True: "clean"}
