"""Evaluation: its parameters, what was measured, and what was decided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from schemas.base import Cosine, Key, Schema, Unit
from schemas.sampling import SampleParams
from schemas.store_paths import report_path

DecisionOutcome = Literal["promoted", "refused"]


class Margins(Schema):
    """Largest tolerated loss against the baseline per score, in the score's own unit.

    An adapter passes when the lower bound of its paired difference is above minus the margin. The
    defaults are about as wide as the half of an interval on twenty prompts: narrower ones would
    refuse an adapter that is exactly as good as its baseline.
    """

    consistency: NonNegativeFloat = 0.05
    """Margin of consistency (cosine). An adapter that does nothing loses 0.33."""

    adherence: NonNegativeFloat = 0.01
    """Margin of adherence (cosine), also of own minus other captions."""

    variety: NonNegativeFloat = 0.1
    """Margin of variety (share)."""

    spread: NonNegativeFloat = 0.02
    """Margin of spread over seeds (share)."""

    structure: NonNegativeFloat = 0.1
    """Margin of structure (share); seams of soft drawings are hard to find, so it varies more."""

    identity: NonNegativeFloat = 0.02
    """Margin of conditional identity (cosine)."""


class EvaluateParams(Schema):
    """Measurement of an adapter and the conditions of promotion."""

    prompts: tuple[str, ...] = ()
    """Prompts; when empty, the dataset's val captions, else ``sample.prompts``.
    A caption of the train split is never a prompt."""

    max_prompts: PositiveInt = 48
    """Maximum number of prompts; val captions are taken in an order given by their hash."""

    seeds: tuple[NonNegativeInt, ...] = (1001, 1002)
    """Seeds, one render per prompt and seed; with fewer than two, spread is not measured."""

    conditional_prompts: NonNegativeInt = 16
    """Number of val sets whose first panel is given while the others are drawn."""

    clip: str = "miniature/clip"
    """Folder, hub id or ``model:pretrained`` of open_clip. It sees whole panels, squashed to its
    square."""

    dino: str = ""
    """Folder or hub id of a DINOv2 of transformers; empty leaves its score out."""

    attribute_reader: str = "auto"
    """Attribute reader: ``auto`` reads renders of the miniature base with its own reader."""

    near_duplicate: Cosine = 0.95
    """Cosine above which two panels are near-duplicates (ShotDirector); at least the 99th
    percentile of the real sets' panel pairs."""

    max_memorized: Unit = 0.2
    """Largest share of renders that may lie closer to a training set than ``1 - memorized_tail`` of
    the real unseen sets do. Far above the tail, because the tail is estimated from few sets: with
    20 of them an honest adapter exceeds 0.2 once in a hundred times, 0.1 once in eight."""

    max_missing: Unit = 0.1
    """Largest share of prompts that may be unmeasured in a decisive score."""

    memorized_tail: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.02
    """Share of unseen real sets that may count as too close; determines the threshold of
    ``memorised``."""

    margins: Margins = Margins()
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    """Confidence level of the bootstrap intervals."""

    bootstrap_resamples: Annotated[int, Field(ge=100)] = 2000
    """Number of bootstrap resamples."""

    bootstrap_seed: NonNegativeInt = 0
    """Random seed of the bootstrap."""

    sheet_side: PositiveInt = 512
    """Longer side of a canvas in the report, in pixels."""


class PromotionRule(Schema):
    """``RULE.json``: the settings that measure and decide about every adapter of a name."""

    evaluate: EvaluateParams
    sample: SampleParams


class HistoryEntry(Schema):
    """A line of ``HISTORY.jsonl``: a change of CHAMPION or of the rule."""

    when: str
    """ISO 8601, in UTC."""

    change: Literal["promoted", "forced", "undone", "rule"]
    """``promoted`` by a report, ``forced`` against it or without one, ``undone``, or another
    ``rule``."""

    before: str
    """The champion's version before the change; empty if there was none."""

    champion: str
    """The champion's version after it; empty if there is none."""

    report: str = ""
    """Version of the report that promoted the champion or was overruled; empty if there is none."""

    rule: str = ""
    """Digest of the rule's decisive settings."""


class Score(Schema):
    """A mean over prompts with its bootstrap interval."""

    value: float
    low: float
    high: float
    prompts: PositiveInt
    """Prompts that were measured."""

    missing: NonNegativeInt = 0
    """Prompts that could not be measured and are excluded."""


class ArmReport(Schema):
    """Scores of one model's renders, of a control, or of the real sets."""

    arm: str
    """``adapter``, ``base``, ``rival`` (the baseline), ``repeated``, ``shuffled`` or ``real``."""

    label: str
    renders: NonNegativeInt
    scores: dict[str, Score]
    unmeasured: dict[str, str] = {}
    """Score to the reason it is missing."""


class DecisionCheck(Schema):
    """One check of the decision."""

    name: str
    passed: bool
    text: str
    """One sentence with the numbers."""


class Decision(Schema):
    """Outcome with its reasons."""

    outcome: DecisionOutcome
    reasons: tuple[str, ...]
    """Sentences; the first is the one that decided."""

    checks: tuple[DecisionCheck, ...]


class Remark(Schema):
    """Result of a control measurement."""

    control: str
    score: str
    text: str
    broken: bool = False
    """The control shows that the score does not measure what its name says."""


class Agreement(Schema):
    """Agreement of a metric with the attribute reader."""

    metric: str
    truth: str
    rank_correlation: float
    """Spearman's."""

    low: float
    high: float
    renders: PositiveInt
    """Number of renders of the adapter, the base and the baseline together."""

    strangers: bool = False
    """True if the adapter's panels shuffled between sets are ranked too: a base that obeys every
    word leaves nothing else to rank."""


class SetReport(Schema):
    """One render among the worst, or the nearest to training."""

    key: Key
    caption: str
    seed: NonNegativeInt
    value: float
    """Value of the score it was selected by."""

    nearest: str = ""
    """Key of the training set it lies nearest to."""


class EvaluationReport(Schema):
    """``report.json``."""

    adapter: str
    """``name@version``."""

    against: str
    """``base`` or ``name@version`` of the baseline."""

    dataset: str
    base: str
    """Base model and revision."""

    preview: bool = False
    """True if the miniature's CLIP measured something other than its film world."""

    decision: Decision
    scores: dict[str, Score]
    """Scores of the adapter, by name."""

    arms: tuple[ArmReport, ...]
    paired: dict[str, dict[str, Score]]
    """Arm (``base``, ``rival``) to score to adapter minus arm, over the same prompts and seeds.
    In ``consistency_capped`` and the like, what exceeds the real sets' own counts for nothing."""

    remarks: tuple[Remark, ...]
    agreement: tuple[Agreement, ...] = ()
    worst: tuple[SetReport, ...]
    nearest: tuple[SetReport, ...]
    judges: dict[str, str]
    """Scorer's role to model and revision, or the reason it is missing."""

    params: EvaluateParams
    rule: str = ""
    """Digest of the rule's decisive settings; empty for an external file."""

    overrides: tuple[str, ...] = ()
    """Settings that differ from the pinned rule; with any, the report promotes nobody."""

    limits: dict[str, float]
    """Thresholds of near-duplicates, of lines inside a panel and of memorization, and the caps of
    scores at the real sets' values."""

    sampling: dict[str, float]
    """Steps, guidance and true_cfg of every render."""

    prompts: tuple[str, ...]
    sheets: tuple[str, ...]
    """Files, relative to the report's folder."""


class ReportManifest(Schema):
    """``manifest.json`` of a report, written last."""

    name: Key
    version: str
    outcome: DecisionOutcome
    digests: dict[str, str]
    """File to sha256."""


class ReportRef(Schema):
    """A finished evaluation."""

    name: Key
    """Name of the adapter."""

    version: str
    """Digest of everything that can change the report."""

    url: str
    """URL or path of its folder."""

    outcome: DecisionOutcome
    champion: str = ""
    """Version that CHAMPION names after the evaluation; empty if none."""

    @property
    def path(self) -> str:
        """Folder relative to the store's root."""
        return report_path(self.name, version=self.version)
