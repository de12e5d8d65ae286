"""The safety classifier, on a small real (random) vision transformer."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from iclora.errors import BadConfig, MissingModel
from iclora.filtering.safety import load_safety_models, safety_rejection, safety_scores
from iclora.models.classifier import classifier_label, load_classifier
from iclora.stitching.fit_frame import blur_unsafe
from schemas.filtering import SafetyCheckParams, SafetyParams


def save_classifier(folder: Path, labels: dict[int, str], bias: list[float]) -> Path:
    """A classifier whose answer is its bias, whatever it sees."""
    import torch
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    config = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=16,
        id2label=labels,
        label2id={label: index for index, label in labels.items()},
    )
    model = ViTForImageClassification(config)
    with torch.no_grad():
        model.classifier.weight.zero_()
        model.classifier.bias.copy_(torch.tensor(bias))
    model.save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def unsafe(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("nsfw") / "detector"
    return str(save_classifier(folder, {0: "normal", 1: "nsfw"}, [0.0, float(np.log(3))]))


PICTURE = Image.new("RGB", (40, 30), (90, 60, 30))


def test_the_probability_of_the_unsafe_label_is_given(unsafe):
    model = load_classifier(unsafe)
    assert model(PICTURE) == model(PICTURE.convert("L")) == 0.75


def test_the_label_has_revision_and_view_and_no_path(unsafe):
    assert re.fullmatch(r"detector@[\w-]+\+squash", classifier_label(unsafe))


def test_what_lies_at_the_edge_of_a_wide_picture_is_seen(tmp_path):
    import torch
    from transformers import CLIPImageProcessor, ViTForImageClassification

    folder = save_classifier(tmp_path / "detector", {0: "normal", 1: "nsfw"}, [0.0, 0.0])
    CLIPImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(folder)
    model = ViTForImageClassification.from_pretrained(folder)
    with torch.no_grad():
        model.classifier.weight.copy_(torch.linspace(-3, 3, 32).reshape(16, 2).T.square())
    model.save_pretrained(folder)
    plain = Image.new("RGB", (128, 32), (90, 60, 30))
    marked = plain.copy()
    marked.paste((255, 0, 255), (0, 0, 32, 32))
    classify = load_classifier(str(folder))
    assert classify(plain) != classify(marked)


@pytest.mark.parametrize(("threshold", "kept"), [(0.7501, True), (0.75, False), (0.7499, False)])
def test_the_policy_rejects_from_its_threshold_on(unsafe, threshold, kept):
    params = SafetyCheckParams(action="reject", model=unsafe, threshold=threshold)
    policy = SafetyParams(nsfw=params)
    fault = safety_rejection(safety_scores(load_safety_models(policy), PICTURE), policy)
    assert (fault is None) is kept
    if fault:
        assert (fault.reason, fault.value, fault.threshold) == ("nsfw", 0.75, threshold)


@pytest.mark.parametrize(("threshold", "blurred"), [(0.7501, False), (0.75, True)])
def test_the_whole_picture_is_blurred_where_that_is_the_policy(unsafe, threshold, blurred):
    policy = SafetyParams(nsfw=SafetyCheckParams(action="blur", model=unsafe, threshold=threshold))
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)
    shown = blur_unsafe(Image.fromarray(pixels), pixels, policy, load_safety_models(policy))
    changed = (np.asarray(shown) != pixels).any(axis=2)
    assert changed.mean() > 0.99 if blurred else not changed.any()


def test_nothing_is_loaded_where_the_policy_is_to_keep(unsafe):
    assert (
        load_safety_models(SafetyParams(nsfw=SafetyCheckParams(action="keep", model=unsafe))).nsfw
        is None
    )


def test_labels_that_mean_nothing_are_refused(tmp_path):
    folder = save_classifier(tmp_path / "pets", {0: "cat", 1: "dog"}, [0.0, 0.0])
    with pytest.raises(BadConfig, match="no label that means nsfw: cat, dog"):
        load_classifier(str(folder))


def test_a_missing_classifier_says_how_to_get_it():
    with pytest.raises(MissingModel, match="hf download some/detector-that-is-not-here"):
        load_classifier("some/detector-that-is-not-here")
