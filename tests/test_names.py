"""Names that cannot be: one sentence, wherever they are given."""

from __future__ import annotations

import pytest

from iclora.errors import BadConfig
from iclora.names import check_name
from iclora.presets import load_config
from iclora.train import train_adapter


@pytest.mark.parametrize("name", ["film", "a", "0", "a-b_c", "x" * 80])
def test_names_that_can_be(name):
    check_name(name, "a dataset")


@pytest.mark.parametrize("name", ["", "Short", "short film", "a/b", "..", "-a", "x" * 81, "é"])
def test_a_training_says_in_a_sentence_which_name_an_adapter_cannot_have(store, name):
    with pytest.raises(BadConfig, match="cannot be an adapter's name: use up to 80 of a-z"):
        train_adapter(store, "films", load_config("miniature"), name)


def test_so_does_the_flow_before_anything_is_started(store):
    from tasks.training import plan_training

    with pytest.raises(BadConfig, match="'Short' cannot be an adapter's name"):
        plan_training.fn("films", "miniature", "", "Short", store.url, {})
