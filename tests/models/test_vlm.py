"""Vision-language models: the miniature's LLaVA and a small Qwen2.5-VL through one door."""

from __future__ import annotations

import threading

import pytest
from PIL import Image

from iclora.errors import BadConfig
from iclora.models.locate import locate
from iclora.models.tokens import load_token_counter
from iclora.models.vlm import Question, load_vlm

SPECIAL = [
    "<|pad|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% else %}{{ p['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def qwen(tmp_path_factory):
    """A Qwen2.5-VL of a few thousand random weights, saved as the real ones are."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *letters])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    processor = Qwen2_5_VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="<|pad|>",  # noqa: S106 - not that kind of token
            eos_token="<|im_end|>",  # noqa: S106 - not that kind of token
            extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
        ),
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=TEMPLATE,
    )
    names = {
        "image_token_id": "<|image_pad|>",
        "video_token_id": "<|video_pad|>",
        "vision_start_token_id": "<|vision_start|>",
        "vision_end_token_id": "<|vision_end|>",
    }
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 1e4}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(vocabulary),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "rope_parameters": rope,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_heads": 4,
            "out_hidden_size": 32,
            "fullatt_block_indexes": [1],
            "window_size": 56,
        },
        **{name: vocabulary[token] for name, token in names.items()},
    )
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config.update(eos_token_id=2, pad_token_id=0)
    folder = tmp_path_factory.mktemp("qwen")
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def picture(number, size=(64, 64)):
    return Image.linear_gradient("L").rotate(37 * number).resize(size).convert("RGB")


def questions(sizes):
    return [
        Question((picture(number, size),), f"describe {'this ' * (number % 3)}")
        for number, size in enumerate(sizes)
    ]


def test_a_miniature_answer_does_not_depend_on_its_company(family):
    model = load_vlm(str(family / "vlm"))
    asked = questions([(64, 64)] * 7)
    together = model.answer(asked, max_new_tokens=8, batch=4)
    assert len({answer.text for answer in together}) > 1
    for question, answer in zip(asked, together, strict=True):
        assert model.answer([question], max_new_tokens=8, batch=4) == [answer]


def test_nor_does_a_qwen_answer_with_pictures_of_many_sizes_or_none(qwen):
    model = load_vlm(str(qwen))
    asked = questions([(84, 56), (112, 84), (84, 56), (56, 84), (84, 56)])
    asked += [Question((), "merge"), Question((picture(1), picture(2)), "compare")]
    together = model.answer(asked, max_new_tokens=8, batch=2)
    assert len({answer.text for answer in together}) > 1
    for question, answer in zip(asked, together, strict=True):
        assert model.answer([question], max_new_tokens=8, batch=2) == [answer]


def test_threads_share_a_model_without_mixing_answers(qwen):
    model = load_vlm(str(qwen))
    asked = questions([(84, 56), (112, 84), (56, 84)])
    alone = model.answer(asked, max_new_tokens=8, batch=2)
    found = {}

    def ask(number):
        found[number] = model.answer(asked, max_new_tokens=8, batch=2)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [alone] * 4


def test_the_prompt_and_the_picture_both_count(qwen):
    model = load_vlm(str(qwen))
    seen = [
        model.answer([Question((picture(n, (84, 56)),), prompt)], max_new_tokens=24, batch=1)[0]
        for n, prompt in ((0, "describe"), (1, "describe"), (0, "what else"))
    ]
    assert len({answer.text for answer in seen}) == 3


def test_a_model_says_whether_prompts_reach_it(family, qwen):
    assert load_vlm(str(qwen)).follows_prompts
    assert not load_vlm(str(family / "vlm")).follows_prompts


def test_an_answer_that_was_cut_off_says_so(family):
    model = load_vlm(str(family / "vlm"))
    (short,) = model.answer([Question((picture(0),), "x")], max_new_tokens=2, batch=1)
    assert short.finish == "length"
    end = next(iter(model._ends))
    assert model._answer([5, end], 2).finish == "stop"
    assert model._answer([5, 6], 3).finish == "stop"
    assert model._answer([5, 6], 2).finish == "length"


def test_it_is_loaded_once_and_named_without_its_path(family):
    model = load_vlm(str(family / "vlm"))
    assert load_vlm(str(family / "vlm")) is model
    assert model.label == f"vlm@{locate(str(family / 'vlm')).revision}"
    assert model.answer([], max_new_tokens=8, batch=4) == []


def test_what_is_no_such_model_is_told(family, tmp_path):
    for folder in (family / "clip", tmp_path):
        with pytest.raises(BadConfig, match="is not a vision-language model"):
            load_vlm(str(folder))


def test_tokens_are_counted_by_the_longer_tokenizer_of_a_pipeline(family):
    count = load_token_counter(str(family / "flux"))
    assert count("a story of waving") == 5  # four words and the end
    assert count("a story" + " a story" * 199) == 401  # never cut


def test_a_folder_without_tokenizer_is_told(tmp_path):
    with pytest.raises(BadConfig, match="holds no tokenizer"):
        load_token_counter(str(tmp_path))
