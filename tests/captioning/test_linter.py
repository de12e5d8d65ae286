"""Each rule on each side of its line."""

from __future__ import annotations

import io
import json
import tarfile

import pytest

from iclora.captioning.linter import LONGEST, RULES, lint_caption
from iclora.captioning.token_budget import UPPER_BOUND, counted_by, token_bound, token_counter
from iclora.dataset.lint_path import lint_path
from iclora.errors import BadConfig, BadInput
from iclora.presets import load_config
from schemas.dataset import BuildConfig, DatasetManifest, ShardEntry

CONFIG = load_config("movie-shots")
CLEAN = (
    "[MOVIE-SHOTS] a day at the sea in soft light; [SCENE-1] <Ann>, a girl with red hair, waves "
    "from a pier, [SCENE-2] <Ann> walks with <Ben>, a boy in a cap, along the beach, [SCENE-3] "
    "<Ben> flies a kite in the evening sun."
)


def rules(text, **changes):
    params = CONFIG.caption.model_copy(update=changes)
    return [fault.rule for fault in lint_caption(text, CONFIG.layout, params)]


def swap(old, new):
    assert old in CLEAN
    return CLEAN.replace(old, new)


def test_a_good_caption_has_no_fault():
    assert rules(CLEAN) == []


BROKEN = {
    "prefix_missing": [swap("[MOVIE-SHOTS] ", ""), swap("[MOVIE-SHOTS]", "[MOVIE SHOTS]")],
    "marker_missing": [swap("[SCENE-2] ", ""), swap("[SCENE-2]", "[SCENE 2]")],
    "marker_twice": [
        swap("[SCENE-3] <Ben>", "[SCENE-3] [SCENE-2] <Ben>"),
        "[MOVIE-SHOTS] " + CLEAN,
    ],
    "marker_order": [
        swap("[SCENE-2]", "[X]").replace("[SCENE-3]", "[SCENE-2]").replace("[X]", "[SCENE-3]")
    ],
    "marker_mid_clause": [
        swap("light; [SCENE-1] <Ann>", "light as [SCENE-1] <Ann>"),
        swap("pier, [SCENE-2]", "pier and [SCENE-2]"),
        swap("[SCENE-2] <Ann>", "[SCENE-2], <Ann>"),
    ],
    "part_empty": [
        swap("[SCENE-2] <Ann> walks with <Ben>, a boy in a cap, along the beach,", "[SCENE-2],")
    ],
    "too_many_words": [swap("kite", "kite " + " ".join(f"word{i}" for i in range(500)))],
    "too_many_tokens": [swap("kite", "kite " + "extraordinarily " * 100)],
    "many_sentences": [swap("pier, [SCENE-2]", "pier. [SCENE-2]"), CLEAN + " The end."],
    "markup": ["```\n" + CLEAN + "\n```", swap("soft light", "**soft** light"), "- " + CLEAN],
    "refusal": [
        "I'm sorry, but I can't assist with that.",
        swap("waves", "waves; as an AI language model I cannot identify people"),
        "I\N{RIGHT SINGLE QUOTATION MARK}m unable to view the picture",
    ],
    "language": [
        (
            "[MOVIE-SHOTS] un jour à la mer; [SCENE-1] <Ann> salue sur la jetée avec le soleil, "
            "[SCENE-2] <Ann> est dans le sable, [SCENE-3] <Ben> qui joue sur la plage."
        ),
        (
            "[MOVIE-SHOTS] ein Tag am Meer; [SCENE-1] <Ann> winkt auf dem Steg, [SCENE-2] Ann und "
            "<Ben> sind im Sand, [SCENE-3] <Ben> ist mit dem Drachen am Strand."
        ),
        "[MOVIE-SHOTS] 海边的一天; [SCENE-1] 在码头, [SCENE-2] <Ann> 走, [SCENE-3] <Ben>.",
    ],
    "gibberish": [
        swap("a kite", "a \ufffd kite"),
        swap("a kite", "a kite ``````"),
        swap("a kite", "a ki" + "t" * 6 + "e"),
        swap("a kite", "a " + "kitebird" * 4),
    ],
    "repetition": [
        swap("flies a kite", "flies flies flies flies a kite"),
        swap("waves from a pier", "waves from a pier, waves from a pier, waves from a pier"),
        (
            "[MOVIE-SHOTS] the sea; [SCENE-1] <Ann> waves, [SCENE-2] <Ann> waves, [SCENE-3] <Ann> "
            "waves."
        ),
    ],
    "summary_empty": [
        swap("a day at the sea in soft light;", "In a delightful animated sequence,"),
        swap("a day at the sea in soft light;", "In this captivating series of three moments,"),
        swap("a day at the sea in soft light; ", ""),
    ],
    "name_forbidden": [
        swap("<Ben>", "<Frodo>"),
        swap("<Ben>", "<Harry Potter>"),
        swap("a kite", "a kite like Indiana Jones"),
        swap("<Ben>", "<Mr. Fox>"),
    ],
    "name_generic": [
        swap("<Ben>", "<Boy>"),
        swap("<Ben>", "<Badger>"),
        swap("<Ben>", "<Person A>"),
        swap("<Ben>", "<Character 2>"),
    ],
    "name_bare": [swap("[SCENE-3] <Ben>", "[SCENE-3] <Ann> sees that Ben")],
    "role_unnamed": [
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] he flies"),
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] the boy flies"),
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] <Ben> and a tall woman fly"),
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] a boy flies"),
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] a wide shot of a boy who flies"),
    ],
    "role_two_names": [
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] <Benny> flies"),
        swap("<Ben>, a boy in a cap,", "<Ben>, also known as <Leo>,"),
        (
            "[MOVIE-SHOTS] the sea; [SCENE-1] <Ann>, a girl with red hair and a blue shirt, waves, "
            "[SCENE-2] <Eve>, a girl with red hair and a blue shirt, eats, [SCENE-3] the tide."
        ),
    ],
    "name_two_roles": [
        swap("[SCENE-2] <Ann> walks", "[SCENE-2] <Ann>, a tall man, walks"),
        swap("[SCENE-2] <Ann> walks", "[SCENE-2] <Ann>, a girl with black hair, walks"),
        (
            "[MOVIE-SHOTS] the sea; [SCENE-1] <Kim> waves his hat, [SCENE-2] <Kim> eats her bread, "
            "[SCENE-3] <Kim> sleeps in the sun."
        ),
    ],
}


def test_every_rule_is_tried():
    assert set(BROKEN) == {rule.__name__ for rule in RULES}


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, texts in BROKEN.items() for text in texts]
)
def test_a_broken_caption_is_caught_by_its_rule(rule, text):
    faults = {f.rule: f for f in lint_caption(text, CONFIG.layout, CONFIG.caption)}
    assert rule in faults
    assert faults[rule].sentence.endswith((".", '."'))


def test_a_list_of_words_is_no_sentence():
    said = "sea; [SCENE-1] foam, {}[SCENE-2] gull, [SCENE-3] tide."
    base = "[MOVIE-SHOTS] " + said
    words = "rock, pool, crab, shell, weed, sand, mist, dune, "  # twelve with the other four
    assert rules(base.format(words)) == []
    assert rules(base.format(words + "boat, ")) == ["language"]
    assert rules(base.format(words + "a boat, ")) == []


def test_the_bound_counts_what_falls_apart():
    assert token_bound("") == 1
    assert [
        token_bound(word) - 1 for word in ("sea", "boat", "Ann", "<", "海海", "[LEFT]", "10")
    ] == [1, 2, 1, 2, 2, 6, 2]


@pytest.mark.parametrize(
    "text",
    [
        swap("; [SCENE-1]", ": [SCENE-1]"),
        swap("sun.", "sun"),
        swap("a pier", "St. Mary's pier at 3.5 m"),
        swap("a pier", "a pier ... far out"),
        swap("flies a kite", "flies, flies, flies a kite"),
        swap("flies a kite", "flies his kite"),
        swap("[SCENE-2] <Ann> walks", "[SCENE-2] <Ann>, the girl from the pier, walks"),
        swap("[SCENE-3] <Ben> flies", "[SCENE-3] a quiet boy named <Ben> flies"),
        swap("[SCENE-3] <Ben> flies a kite", "[SCENE-3] a kite shaped like a man flies"),
        swap("<Ben>", "<Anna>"),  # both are in panel 2: two people
        swap("a day at the sea in soft light;", "In an animated heist sequence,"),
        swap("a kite", "a kite with the sign 海"),
        swap("<Ben>", "<Élodie>"),
        swap("a kite", "a kite beside a fox"),
        swap("a kite", "a kite beside the statue of a man"),
        swap("a kite", "a ki" + "t" * 5 + "e"),
        swap("a kite", "a " + ("kitebird" * 4)[:30]),
        swap("a pier", "a pier ......... far out"),
        "[MOVIE-SHOTS] waves on rocks; [SCENE-1] foam, [SCENE-2] a gull, [SCENE-3] the tide.",
    ],
)
def test_rules_do_not_cry_wolf(text):
    assert rules(text) == []


def test_the_word_budget_is_exact():
    words = len(CLEAN.split())
    assert rules(CLEAN, max_words=words) == []
    assert rules(CLEAN, max_words=words - 1) == ["too_many_words"]


def test_the_token_budget_is_exact():
    tokens = token_bound(CLEAN)
    assert rules(CLEAN, max_tokens=tokens) == []
    assert rules(CLEAN, max_tokens=tokens - 1) == ["too_many_tokens"]


def test_a_tokenizer_is_counted_with_when_it_is_there(family):
    counted = token_counter(str(family / "flux"))(CLEAN)
    assert counted != token_bound(CLEAN)
    tight = {"tokenizer": str(family / "flux"), "max_tokens": counted}
    assert rules(CLEAN, **tight) == []
    assert rules(CLEAN, **tight | {"max_tokens": counted - 1}) == ["too_many_tokens"]


def test_without_the_tokenizer_the_bound_counts_and_is_named(caplog):
    assert token_counter("nobody/has-this-base")(CLEAN) == token_bound(CLEAN)
    assert "nobody/has-this-base" in caplog.text
    assert counted_by("nobody/has-this-base") == counted_by("") == UPPER_BOUND
    assert counted_by("miniature/flux") == "miniature/flux"


def test_the_bound_is_above_a_real_tokenizer():
    """CLIP's byte pairs, which open_clip carries; English words cost T5 about the same."""
    from open_clip.tokenizer import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    texts = [CLEAN, *(text for texts in BROKEN.values() for text in texts if text.isascii())]
    for text in texts:
        assert len(tokenizer.encode(text)) + 1 <= token_bound(text)


def test_a_task_without_prefix_needs_none():
    assert rules(CLEAN.removeprefix("[MOVIE-SHOTS] "), prefix="") == []


def test_the_users_names_are_forbidden_too(tmp_path):
    own = tmp_path / "names.txt"
    own.write_text("# ours\n\nBen\n", encoding="utf-8")
    assert rules(CLEAN, forbidden_names=str(own)) == ["name_forbidden"]
    with pytest.raises(BadConfig, match=r"none\.txt"):
        rules(CLEAN, forbidden_names=str(tmp_path / "none.txt"))


def test_a_novel_is_refused_without_being_read():
    assert rules("word " * LONGEST) == ["too_many_words"]


def test_a_folder_and_a_file_are_linted(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "good.txt").write_text(CLEAN, encoding="utf-8-sig")
    (tmp_path / "deep" / "bad.txt").write_text("", encoding="utf-8")
    (tmp_path / "._good.txt").write_bytes(b"\x00\x05\x16\xff")
    found = lint_path(tmp_path, CONFIG.layout, CONFIG.caption)
    assert {name: bool(faults) for name, faults in found.items()} == {
        "good": False,
        "deep/bad": True,
    }
    lines = tmp_path / "lines.text"
    lines.write_text(f"{CLEAN}\n\n{swap('[SCENE-2] ', '')}\n", encoding="utf-8")
    found = lint_path(lines, CONFIG.layout, CONFIG.caption)
    assert {name: [f.rule for f in faults] for name, faults in found.items()} == {
        "line 1": [],
        "line 3": ["marker_missing"],
    }


def test_what_holds_no_captions_is_told(tmp_path):
    for path, said in ((tmp_path, "holds no caption"), (tmp_path / "x", "does not exist")):
        with pytest.raises(BadInput, match=said):
            lint_path(path, CONFIG.layout, CONFIG.caption)
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    with pytest.raises(BadInput, match=r"latin\.txt is not UTF-8"):
        lint_path(tmp_path, CONFIG.layout, CONFIG.caption)


def test_a_dataset_is_linted_by_its_keys(tmp_path):
    """A dataset version as it is in a store: two samples in one tar."""
    record = {
        "layout": "3x1",
        "width": 64,
        "height": 96,
        "panels": [],
        "masks": [],
        "image_sha256": "0",
        "caption": {
            "prefix": "",
            "summary": "",
            "roles": [],
            "captioner": "x",
            "image_sha256": "0",
        },
        "scores": {},
        "licence": "unknown",
        "split": "train",
    }
    with tarfile.open(tmp_path / "train-000000.tar", "w") as tar:
        for key, text in (("good", CLEAN), ("bad", swap("[SCENE-2] ", ""))):
            files = {"jpg": b"-", "json": json.dumps({"key": key} | record).encode()}
            for extension, data in (files | {"txt": text.encode()}).items():
                info = tarfile.TarInfo(f"{key}.{extension}")
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    shard = ShardEntry(
        file="train-000000.tar", split="train", samples=2, size=1, sha256="0", md5="0"
    )
    manifest = DatasetManifest(
        name="shots",
        version="1",
        config=BuildConfig.of(CONFIG),
        models={},
        samples=2,
        splits={"train": 2, "val": 0},
        scores=(),
        shards=(shard,),
        sources=(),
        ledger={},
        digests={},
    )
    (tmp_path / "manifest.json").write_text(manifest.to_text(), encoding="utf-8")
    found = lint_path(tmp_path, CONFIG.layout, CONFIG.caption)
    assert {key: [f.rule for f in faults] for key, faults in found.items()} == {
        "good": [],
        "bad": ["marker_missing"],
    }


def test_the_published_captions_have_the_faults_that_they_have(reference):
    """0003 names its roles by kind, one of them as in its film; 0006 says nothing before a marker
    that stands inside a clause; in the text of 0009 nothing is wrong."""
    found = lint_path(reference / "movie-shots", CONFIG.layout, CONFIG.caption)
    assert {name: [f.rule for f in faults] for name, faults in found.items()} == {
        "0003": ["name_forbidden", "name_generic"],
        "0006": ["marker_mid_clause", "summary_empty"],
        "0009": [],
    }
