"""The whole measurement on adapters that are known to be good, lazy or copying.

Nobody is trained here: an arm is a way of drawing the film world, and the encoder is that world's
own eye (a picture's coarse colours; a text is drawn first), so what must come out is known.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image

from iclora.captioning.caption_text import parse_caption
from iclora.evaluation.agreement import agreements
from iclora.evaluation.bootstrap import Resampling
from iclora.evaluation.controls import shuffled
from iclora.evaluation.measurements import measure_canvases
from iclora.evaluation.plan import Arm, EvaluationPlan
from iclora.evaluation.prompts import PromptSet, RealSet
from iclora.evaluation.renders import Renders
from iclora.evaluation.results import nearest_renders, run_metrics, worst_renders
from iclora.evaluation.scorers import Scorers
from iclora.evaluation.scorers.reader import TrueScores
from iclora.evaluation.scores import TrainingEmbeddings
from iclora.miniature.captions import attributes_in, set_caption
from iclora.miniature.draw import render_panel
from iclora.miniature.script import NAMES
from iclora.miniature.world import VALUES, View, random_attributes, random_view
from iclora.presets import load_config
from iclora.sampling.render_records import (
    RenderRequest,
    RenderSettings,
    make_record,
    save_render,
)

PROMPTS, SEEDS, TRAINED, UNSEEN = 16, (1, 2), 30, 20


class Eye:
    """Sees a picture as 8 x 8 colours, and a text as the picture that it asks for."""

    name, revision = "eye", "1"

    def images(self, images):
        small = [np.asarray(i.convert("RGB").resize((8, 8)), float).ravel() for i in images]
        rows = np.stack(small) - 127.0
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def texts(self, texts):
        return self.images([render_panel(self._asked(text), View()) for text in texts])

    def _asked(self, text):
        usual = random_attributes(random.Random(0))
        return usual.model_copy(update=attributes_in(text))


def scene(seed):
    """Attributes of three shots of one scene."""
    rng = random.Random(seed)
    first, shots = random_attributes(rng), [random_attributes(rng) for _ in range(3)]
    return [first.model_copy(update={"shot": s.shot, "action": s.action}) for s in shots]


def caption_of(seed):
    """The caption of a scene; each part tells of everything on its panel."""
    everything = frozenset(VALUES)
    return set_caption(scene(seed), NAMES[seed % len(NAMES)], clauses=everything)


def stacked(panels):
    canvas = Image.new("RGB", (64, 192))
    for number, panel in enumerate(panels):
        canvas.paste(panel, (0, 64 * number))
    return canvas


def drawn(attributes, rng):
    return stacked([render_panel(panel, random_view(rng)) for panel in attributes])


def obeying(share):
    """Draws what is asked, each attribute right with this probability."""

    def draw(seed, rng):
        panels = []
        for panel in scene(seed):
            wrong = random_attributes(rng)
            slips = {name: getattr(wrong, name) for name in VALUES if rng.random() > share}
            panels.append(panel.model_copy(update=slips))
        return drawn(panels, rng)

    return draw


def one_panel_for_all(seed, rng):
    panel = render_panel(scene(seed)[0], random_view(rng))
    return stacked([panel] * 3)


def training_by_heart(seed, rng):
    return training_set(rng.randrange(TRAINED)).open()


def one_look_a_caption(seed, _rng):
    """The same picture for every seed."""
    return drawn(scene(seed), random.Random(seed))


def real_set(seed):
    config = load_config("miniature")
    import io

    buffer = io.BytesIO()
    drawn(scene(seed), random.Random(seed)).save(buffer, "PNG")
    return RealSet(
        f"scene-{seed}", caption_of(seed), buffer.getvalue(), config.layout.boxes, config.layout
    )


def training_set(number):
    return real_set(1000 + number)


@pytest.fixture(scope="module")
def inputs():
    """Suite, gallery and judges."""
    eye = Eye()
    prompts = tuple(caption_of(seed) for seed in range(PROMPTS))
    prompt_set = PromptSet(prompts, tuple(real_set(500 + n) for n in range(UNSEEN)), False, 0)
    panels = [panel for n in range(TRAINED) for panel in training_set(n).panels()]
    training = TrainingEmbeddings(
        [training_set(n).key for n in range(TRAINED)], eye.images(panels).reshape(TRAINED, 3, -1)
    )
    return prompt_set, training, Scorers(eye)


@pytest.fixture(scope="module")
def config():
    return load_config(
        "miniature",
        {
            "evaluate.bootstrap_resamples": 500,
            "evaluate.margins.adherence": 0.05,
            "evaluate.clip": "eye",
        },
    )


@pytest.fixture(scope="module")
def draw_all(tmp_path_factory, config, inputs):
    """Renders of one way of drawing."""

    def draw(name, way):
        folder, rows = tmp_path_factory.mktemp(name), []
        for seed, prompt in enumerate(inputs[0].prompts):
            row = []
            for number in SEEDS:
                request = RenderRequest(prompt, number)
                settings = RenderSettings(config.layout, config.sample)
                record = make_record(request, settings, base="world@1")
                picture = way(seed, random.Random(f"{name} {seed} {number}"))
                save_render(folder, record, picture, config.layout, {})
                row.append(record)
            rows.append(tuple(row))
        return Renders(folder, tuple(rows), ())

    return draw


@pytest.fixture(scope="module")
def base(draw_all):
    return draw_all("base", obeying(0.5))


@pytest.fixture(scope="module")
def evaluate(config, inputs, base, draw_all):
    """What an evaluation of one way of drawing finds, against the base."""

    def find(name, way):
        sides = Arm("adapter", name, ()), Arm("base", "the base", ())
        plan = EvaluationPlan("film", None, *sides, sides[1], config, "scenes", "scenes")
        prompt_set, training, scorers = inputs
        renders = {"adapter": draw_all(name, way), "base": base}
        return run_metrics(plan, renders, prompt_set, training, scorers)

    return find


@pytest.fixture(scope="module")
def good(evaluate):
    return evaluate("good", obeying(0.9))


def test_an_adapter_that_obeys_and_is_consistent_is_promoted(good):
    assert good.decision.outcome == "promoted"
    assert good.paired["base"]["consistency_capped"].low > 0
    assert good.paired["base"]["adherence"].low > 0


def test_variety_of_an_incoherent_base_is_no_merit(good):
    """The base's unrelated panels are more various; beyond what real sets have it is nothing."""
    assert good.paired["base"]["variety"].high < 0
    assert good.paired["base"]["variety_capped"].value > -0.05


def test_a_real_set_is_no_worse_than_the_most_various_base(evaluate):
    """Without the cap it would be: everything right is less various than everything wrong."""
    results = evaluate("real", obeying(1.0))
    for score in ("variety", "spread"):
        assert results.paired["base"][score].high < -0.05
        assert results.paired["base"][f"{score}_capped"].value > -0.05


def test_the_controls_are_where_they_must_be(good):
    arms = good.arms
    assert arms["repeated"].scores["consistency"].value == 1.0
    assert arms["repeated"].scores["variety"].value == 0.0
    assert arms["shuffled"].scores["consistency"].value < arms["real"].scores["consistency"].value
    assert arms["shuffled"].scores["adherence"].value < arms["adapter"].scores["adherence"].value
    assert not any(remark.broken for remark in good.remarks)
    assert "structure" in arms["repeated"].unmeasured
    assert "spread" in arms["real"].unmeasured


def test_the_copied_panel_is_refused_for_want_of_variety(evaluate):
    results = evaluate("copy", one_panel_for_all)
    assert results.decision.outcome == "refused"
    assert any(r.startswith("Variety is worse than") for r in results.decision.reasons)
    assert results.arms["adapter"].scores["consistency"].value == 1.0


def test_the_overtrained_adapter_is_refused_for_memorising(evaluate):
    results = evaluate("overtrained", training_by_heart)
    assert results.decision.outcome == "refused"
    assert results.decision.reasons[0].startswith(
        "100.0% of the renders lie closer to a training set"
    )
    assert results.nearest[0][2] == 1.0


def test_one_look_for_every_seed_is_refused_for_want_of_spread(evaluate):
    results = evaluate("collapsed", one_look_a_caption)
    assert results.decision.outcome == "refused"
    assert any(reason.startswith("Spread is worse") for reason in results.decision.reasons)


def test_the_base_again_is_no_improvement(evaluate):
    results = evaluate("same", obeying(0.5))
    assert results.decision.outcome == "refused"
    assert results.decision.checks[-1].text.startswith("No evidence of improvement over the base")


def test_a_damaged_canvas_is_missing_and_the_rest_is_measured(config, inputs, draw_all):
    prompt_set, training, scorers = inputs
    renders = draw_all("damaged", obeying(0.9))
    (renders.folder / renders.free[3][1].canvas).write_bytes(b"")
    sides = Arm("adapter", "damaged", ()), Arm("base", "the base", ())
    plan = EvaluationPlan("film", None, *sides, sides[1], config, "scenes", "scenes")
    both = {"adapter": renders, "base": renders}
    results = run_metrics(plan, both, prompt_set, training, scorers)
    assert results.arms["adapter"].renders == PROMPTS * len(SEEDS) - 1
    assert results.arms["adapter"].scores["consistency"].prompts == PROMPTS
    assert results.arms["adapter"].scores["spread"].missing == 1


class Failing:
    """A scorer that fails on every batch."""

    name, revision, infos, on_shuffled = "failing", "1", {"luck": None}, True

    def measure(self, panels):
        raise RuntimeError("out of luck")

    def scores(self, measured, captions):
        raise AssertionError("there is nothing to score")


def test_a_scorer_that_fails_is_missing_and_never_a_number(config, inputs, base):
    prompt_set, training, _ = inputs
    scorers = Scorers(Eye(), {"failing": Failing()})
    measured = measure_canvases(base.open_free(), config.layout, scorers)
    assert np.isnan(measured.others["failing"]).all()
    assert not np.isnan(measured.clip).any()
    sides = Arm("adapter", "base again", ()), Arm("base", "the base", ())
    plan = EvaluationPlan("film", None, *sides, sides[1], config, "scenes", "scenes")
    both = {"adapter": base, "base": base}
    results = run_metrics(plan, both, prompt_set, training, scorers)
    assert "fewer than two prompts" in results.arms["adapter"].unmeasured["luck"]
    assert "luck" not in results.paired["base"]


class Truthful:
    """A reader that knows what was drawn, because it drew it."""

    name, revision = "truth", "1"

    def __init__(self):
        self.attributes = {}

    def read(self, images):
        return [self.attributes[image.tobytes()] for image in images]


def test_true_scores_count_attributes_and_agree_with_the_metrics(config, inputs):
    reader, rng = Truthful(), random.Random(5)
    canvases, shares = [], [0.2, 0.5, 0.8, 1.0]
    for seed in range(PROMPTS):
        row = []
        for share in shares:
            panels = []
            for panel in scene(seed):
                wrong = random_attributes(rng)
                slips = {name: getattr(wrong, name) for name in VALUES if rng.random() > share}
                panels.append(panel.model_copy(update=slips))
            pictures = [render_panel(panel, random_view(rng)) for panel in panels]
            for picture, panel in zip(pictures, panels, strict=True):
                reader.attributes[picture.tobytes()] = panel.to_json()
            row.append(lambda pictures=pictures: stacked(pictures))
        canvases.append(row)
    scorer = TrueScores(reader)
    measured = measure_canvases(canvases, config.layout, Scorers(Eye(), {"reader": scorer}))
    captions = [
        parse_caption(prompt, config.layout.markers, config.caption.prefix)
        for prompt in inputs[0].prompts
    ]
    true_scores = scorer.scores(measured.others["reader"], captions)
    consistency, adherence = true_scores["true_consistency"], true_scores["true_adherence"]
    assert consistency[:, 3].tolist() == [1.0] * PROMPTS
    assert adherence[:, 3].tolist() == [1.0] * PROMPTS
    assert consistency[:, 0].mean() < consistency[:, 2].mean() < 1
    from iclora.evaluation.metrics import adherence as metric_adherence
    from iclora.evaluation.metrics import consistency as metric_consistency
    from iclora.evaluation.scores import embed_texts

    scores = {
        "consistency": metric_consistency(measured.clip),
        "adherence": metric_adherence(measured.clip, embed_texts(captions, Eye())),
        **true_scores,
    }
    results = agreements([scores], Resampling(resamples=100))
    assert [row.metric for row in results] == ["consistency", "adherence"]
    assert all(row.low > 0.5 for row in results)
    assert all(row.renders == PROMPTS * len(shares) for row in results)
    both = agreements([scores, scores], Resampling(resamples=100))
    assert all(row.renders == 2 * PROMPTS * len(shares) for row in both)
    assert [r.rank_correlation for r in both] == [r.rank_correlation for r in results]


def test_shuffled_panels_are_ranked_where_everybody_obeys():
    same, how = np.full((6, 2), 1.0), Resampling(resamples=100)
    obeying = {"adherence": np.linspace(0.5, 0.6, 12).reshape(6, 2), "true_adherence": same}
    strangers = {"adherence": obeying["adherence"] - 0.3, "true_adherence": same / 4}
    assert agreements([obeying], how) == ()
    (agreement,) = agreements([obeying], how, strangers)
    assert agreement.strangers
    assert agreement.renders == 24
    assert agreement.low > 0.5


ONE = random_attributes(random.Random(0)).to_json()


def test_true_scores_of_a_caption_that_names_nothing_and_of_a_missing_panel():
    scorer = TrueScores(Truthful())
    scorer._reader.read = lambda panels: panels
    row = scorer.measure([ONE, ONE])
    measured = np.stack([row, np.where([[True], [False]], row, np.nan)])[None]
    caption = parse_caption("[SCENE-1] someone, [SCENE-2] someone", ("[SCENE-1]", "[SCENE-2]"), "")
    results = scorer.scores(measured, [caption])
    assert np.isnan(results["true_adherence"]).all()
    assert results["true_consistency"][0, 0] == 1.0
    assert np.isnan(results["true_consistency"][0, 1])


def test_what_is_read_is_shuffled_as_the_panels_are():
    rows = np.arange(3.0)[:, None, None, None].repeat(2, axis=2)  # [N, 1, P, 1]
    rows[1] = np.nan
    moved = shuffled(rows)[:, 0, :, 0]
    assert np.array_equal(moved, [[np.nan, 2], [2, 0], [0, np.nan]], equal_nan=True)


def test_the_worst_have_the_lowest_ranks_and_the_unmeasured_are_not_among_them():
    values = np.array([[0.1, 0.9], [0.5, np.nan], [0.2, 0.8]])
    scores = dict.fromkeys(("consistency", "adherence", "variety", "structure"), values)
    results = worst_renders(scores)
    assert [(n, k) for n, k, _ in results] == [(0, 0), (2, 0), (1, 0), (2, 1), (0, 1)]


def test_the_nearest_are_told_once_a_prompt():
    training = TrainingEmbeddings(["a", "b"], np.eye(2)[:, None])
    clip = np.eye(2)[[[0, 0], [1, 1]]][:, :, None] * 1.0

    class Measured:
        pass

    measured = Measured()
    measured.clip = clip
    assert nearest_renders(measured, training) == [(0, 0, 1.0, "a"), (1, 0, 1.0, "b")]
    assert nearest_renders(measured, TrainingEmbeddings([], np.zeros((0, 1, 2)))) == []
