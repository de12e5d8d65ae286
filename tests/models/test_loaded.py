"""Loaded models stay until they are unloaded, all of them and then altogether."""

from __future__ import annotations

import ast
import io
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

import iclora
from iclora.models.loaded import cached_model, unload_models

PACKAGE = Path(iclora.__file__).parent
PLAIN = {"None", "bool", "float", "str", "tuple", "frozenset", "dict"}
"""What a function that functools caches may return."""

NO_MODEL = {
    "_connection_slots", "breaker_of", "_class_of_host", "_client_within", "_bounded_response",
}  # fmt: skip
"""What is shared for a server: a semaphore, a circuit breaker, an address's class, a client."""


def local_captioner(family):
    from iclora.captioning.captioners import Request, local
    from iclora.models.vlm import load_vlm
    from schemas.captioning import CaptionerParams

    params = CaptionerParams(kind="local", model=str(family / "vlm"))
    captioner = local.LocalCaptioner(params)
    picture = io.BytesIO()
    Image.new("RGB", (64, 64)).save(picture, format="PNG")
    ((_, reply),) = captioner.ask([Request((picture.getvalue(),), "describe")])
    assert reply
    # The reply is there a moment before the thread that made it lets go of the model.
    model = load_vlm(params.model)
    waiting = local._batch_queue(model, params.max_new_tokens, params.batch)
    waiting._worker.submit(int).result()
    return waiting


def vlm(family):
    from iclora.models.vlm import load_vlm

    return load_vlm(str(family / "vlm"))


def clip(family):
    from iclora.models.clip import load_clip

    return load_clip(str(family / "clip"))


def counter(family):
    from iclora.models.tokens import load_token_counter

    return load_token_counter(str(family / "flux"))


def painter(family):
    from iclora.sampling.sampler import load_sampler

    made = load_sampler(str(family / "flux"), "flux1")
    assert made.transformer is not None
    return made


def reader(_family):
    from iclora.evaluation.scorers.reader import load_attribute_reader

    return load_attribute_reader()


def dino(family):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    from iclora.evaluation.scorers.dino import load_dino

    folder = family / "dino"
    if not folder.exists():
        shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        Dinov2Model(Dinov2Config(**shape, image_size=28, patch_size=14)).save_pretrained(folder)
        BitImageProcessor().save_pretrained(folder)
    return load_dino(str(folder))


@pytest.mark.parametrize("load", [local_captioner, vlm, clip, counter, painter, reader, dino])
def test_a_model_is_loaded_once_and_gone_when_unloaded(family, load):
    model = weakref.ref(load(family))
    assert load(family) is model(), "loaded once"
    unload_models()
    assert model() is None
    assert load(family) is not None, "and again when it is needed"
    unload_models()


def test_threads_that_want_one_model_load_it_once():
    loads = []

    @cached_model(1)
    def load(name):
        loads.append(name)
        time.sleep(0.05)
        return object()

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(load, ["model"] * 4))) == 1
    assert loads == ["model"]


def test_every_loader_can_be_unloaded():
    """A function that functools itself caches returns plain data, which needs no GPU."""
    cached = [
        node
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and any(
            name in ast.unparse(one).split("(")[0].split(".")
            for one in node.decorator_list
            for name in ("lru_cache", "cache")
        )
    ]
    assert len(cached) > 5
    for node in cached:
        returned = ast.unparse(node.returns).partition("[")[0]
        assert returned in PLAIN or node.name in NO_MODEL, f"{node.name}: use cached_model"
