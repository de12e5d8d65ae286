from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from iclora.errors import MissingModel
from iclora.evaluation.scorers import load_scorers
from iclora.evaluation.scorers.dino import Dino


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    """A DINOv2 of two thin layers with random weights."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("dino")
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    Dinov2Model(Dinov2Config(**shape, image_size=28, patch_size=14)).save_pretrained(folder)
    size = {"shortest_edge": 28}
    crop = {"height": 28, "width": 28}
    BitImageProcessor(size=size, crop_size=crop).save_pretrained(folder)
    return folder


def pictures(count):
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)) for _ in range(count)]


def test_dino_gives_unit_vectors_whatever_the_company(dino_folder):
    dino = Dino(str(dino_folder))
    panels = pictures(18)
    rows = dino.measure(panels)
    assert rows.shape == (18, 32)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(18), abs=1e-5)
    assert np.allclose(dino.measure(panels[17:]), rows[17:], atol=1e-6)
    assert dino.name == dino_folder.name


def test_dino_sees_the_edges_of_a_wide_panel(dino_folder):
    dino = Dino(str(dino_folder))
    panel = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 128, 3), np.uint8))
    changed = panel.copy()
    changed.paste((255, 0, 255), (96, 0, 128, 64))
    first, second, again = dino.measure([panel, changed, panel])
    assert float(first @ second) < 0.999
    assert np.array_equal(first, again)


def test_dinos_vector_does_not_depend_on_the_shapes_beside_it(dino_folder):
    dino = Dino(str(dino_folder))
    shapes = [pictures(1)[0].resize(size) for size in ((64, 64), (128, 64), (40, 90))]
    together = dino.measure(shapes)
    for number, shape in enumerate(shapes):
        assert np.array_equal(dino.measure([shape])[0], together[number])


def test_the_view_is_part_of_what_reports_record(config, dino_folder):
    evaluation = config.evaluate.model_copy(update={"dino": str(dino_folder)})
    labels = load_scorers(evaluation, config.base).labels()
    assert labels["clip"].endswith("+squash")
    assert labels["dino"].endswith("+squash")


def test_judges_that_are_not_there_are_named_with_their_reason(config, dino_folder):
    absent = load_scorers(config.evaluate, config.base).labels()
    assert absent["dino"] == "missing: evaluate.dino names none"
    assert absent["reader"].startswith("missing: the base does not draw the film world")
    evaluation = config.evaluate.model_copy(
        update={"dino": str(dino_folder), "attribute_reader": "none"}
    )
    scorers = load_scorers(evaluation, config.base)
    dino = scorers.others["dino"]
    assert scorers.labels()["dino"] == f"{dino.name}@{dino.revision}"
    assert scorers.labels()["reader"] == "missing: evaluate.attribute_reader is none"


def test_a_dino_that_is_not_on_this_machine_is_missing_and_clip_still_judges(config):
    evaluation = config.evaluate.model_copy(update={"dino": "nobody/has-this-dino"})
    scorers = load_scorers(evaluation, config.base)
    assert scorers.others == {}
    assert "nobody/has-this-dino" in scorers.labels()["dino"]


def test_without_clip_there_is_no_evaluation(config):
    evaluation = config.evaluate.model_copy(update={"clip": "nobody/has-this-clip"})
    with pytest.raises(MissingModel, match="nobody/has-this-clip"):
        load_scorers(evaluation, config.base)
