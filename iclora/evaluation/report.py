"""Report files: ``report.json`` for machines, ``report.html`` for people, ``sheets/`` for both.

The page loads nothing: its content security policy forbids it, images are data URIs, plots are
inline SVG.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from iclora.captioning.caption_text import parse_caption
from iclora.evaluation.agreement import PAIRS
from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.plan import Arm, EvaluationPlan
from iclora.evaluation.plots import loss_curve, score_plots
from iclora.evaluation.prompts import PromptSet
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.results import EvaluationResults
from iclora.evaluation.rule import rule_digest
from iclora.evaluation.score_tables import absent, differences, score_infos, tiles
from iclora.evaluation.scorers import Scorers
from iclora.models.locate import is_demo
from iclora.sampling.contact_sheet import contact_sheet
from iclora.store import file_sha256
from schemas.evaluation import EvaluationReport, ReportManifest, SetReport
from schemas.sampling import RenderRecord

_ROWS_PER_SHEET = 12
_QUALITY = 85
"""Quality of the report's JPEGs."""

_COMPLETED = 8
"""Number of conditional renders shown."""


class ReportData(NamedTuple):
    """Input data of a report."""

    plan: EvaluationPlan
    prompts: PromptSet
    renders: Mapping[str, Renders]
    results: EvaluationResults
    scorers: Scorers
    training: Mapping[str, Image.Image]
    """Canvases of the training sets nearest to renders, by key."""

    losses: Sequence[tuple[int, float]]
    """Step and loss of the adapter's training; empty without a run record."""


def write_report(folder: Path, version: str, data: ReportData) -> ReportManifest:
    """Writes a report's files into a folder.

    Args:
        folder: empty output folder.
        version: version of the report.
        data: content of the report.

    Returns:
        The manifest, which the caller writes last.
    """
    sheets = _write_sheets(folder / "sheets", data)
    report = _assemble(data, sheets)
    (folder / "report.json").write_text(report.to_text(), encoding="utf-8")
    (folder / "report.html").write_text(_render_html(report, data), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    return ReportManifest(
        name=data.plan.name,
        version=version,
        outcome=report.decision.outcome,
        digests=digests,
    )


def _assemble(data: ReportData, sheets: Sequence[str]) -> EvaluationReport:
    """Assembles the content of ``report.json``."""
    plan, results = data.plan, data.results
    sample, free = plan.config.sample, data.renders[ADAPTER].free
    clip_is_small = is_demo(plan.config.evaluate.clip)
    return EvaluationReport(
        adapter=plan.adapter.label,
        against=plan.baseline.label if plan.baseline.adapters else "base",
        dataset=plan.dataset,
        base=free[0][0].base,
        preview=clip_is_small and not is_demo(plan.config.base.model),
        decision=results.decision,
        scores=results.arms[ADAPTER].scores,
        arms=tuple(results.arms.values()),
        paired=results.paired,
        remarks=results.remarks,
        agreement=results.agreement,
        worst=tuple(_set_report(free[n][k], rank) for n, k, rank in results.worst),
        nearest=tuple(_set_report(free[n][k], near, key) for n, k, near, key in results.nearest),
        judges=data.scorers.labels(),
        params=plan.config.evaluate,
        rule=rule_digest(plan.rule) if plan.rule else "",
        overrides=plan.overrides,
        limits=results.limits,
        sampling={
            "steps": float(sample.steps),
            "guidance": sample.guidance,
            "true_cfg": sample.true_cfg,
        },
        prompts=data.prompts.prompts,
        sheets=tuple(sheets),
    )


def _set_report(record: RenderRecord, value: float, nearest: str = "") -> SetReport:
    return SetReport(
        key=record.key, caption=record.caption, seed=record.seed, value=value, nearest=nearest
    )


def _write_sheets(folder: Path, data: ReportData) -> list[str]:
    """Writes contact sheets of all arms; one row per prompt, first seed only."""
    folder.mkdir(parents=True)
    arms, prompts = data.plan.arms, data.prompts.prompts
    side = data.plan.config.evaluate.sheet_side
    names: list[str] = []
    for start in range(0, len(prompts), _ROWS_PER_SHEET):
        labels = prompts[start : start + _ROWS_PER_SHEET]
        pictures = [
            [
                open_picture(renders.folder / renders.free[prompt][0].canvas)
                for renders in (data.renders[arm.name] for arm in arms)
            ]
            for prompt in range(start, start + len(labels))
        ]
        sheet = contact_sheet(pictures, labels, heads=[arm.label for arm in arms], side=side)
        name = f"sheet-{start // _ROWS_PER_SHEET + 1:02}.jpg"
        sheet.save(folder / name, "JPEG", quality=_QUALITY, subsampling=0)
        names.append(f"sheets/{name}")
    return names


def _render_html(report: EvaluationReport, data: ReportData) -> str:
    """Renders ``report.html``."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = partial(
        json.dumps, indent=1, ensure_ascii=False, sort_keys=True
    )
    environment.filters["short"] = _shorten
    plan, results = data.plan, data.results
    side = report.params.sheet_side
    infos, margins = score_infos(data.scorers), report.params.margins
    own, paired = results.arms[ADAPTER].scores, results.paired
    renders = [(arm, data.renders[arm.name]) for arm in plan.arms]
    free, completed = data.renders[ADAPTER].free, data.renders[ADAPTER].conditional[:_COMPLETED]
    ranked = {row.metric for row in report.agreement if not row.strangers}
    return environment.get_template("report.html.j2").render(
        report=report,
        plan=plan,
        infos=infos,
        plots=score_plots(results.arms, infos),
        differences={
            arm.label: differences(paired[arm.name], margins, infos)
            for arm in plan.arms
            if arm.name in paired
        },
        # One row per prompt or conditional set, with one card per arm.
        rows=[[_card(data, arm, r.free[n][0]) for arm, r in renders] for n in range(len(free))],
        conditional=[
            [_card(data, arm, r.conditional[n]) for arm, r in renders]
            for n in range(len(completed))
        ],
        worst=[_card(data, plan.adapter, free[n][k]) for n, k, _ in results.worst],
        nearest=[_card(data, plan.adapter, free[n][k]) for n, k, *_ in results.nearest],
        training={key: _data_uri(image, side) for key, image in data.training.items()},
        curve=loss_curve(data.losses),
        withheld=data.prompts.withheld,
        tiles=tiles(own, paired[plan.baseline.name], infos),
        absent=absent(results.arms, infos),
        # A constant true score ranks nothing, so its metric cannot be assessed.
        unranked=[
            infos[metric].title
            for metric, truth in PAIRS
            if truth in report.scores and metric not in ranked
        ],
    )


def _card(data: ReportData, arm: Arm, record: RenderRecord) -> dict[str, Any]:
    """Returns a render as the template's ``card`` shows it."""
    config = data.plan.config
    markers = config.layout.markers
    parts = parse_caption(record.caption, markers, config.caption.prefix).parts
    picture = open_picture(data.renders[arm.name].folder / record.canvas)
    return {
        "label": arm.label,
        "uri": _data_uri(picture, config.evaluate.sheet_side),
        "caption": record.caption,
        "parts": list(zip(markers, parts, strict=True)),
        "seed": record.seed,
    }


def _data_uri(picture: Image.Image, side: int) -> str:
    """Encodes an image as a data URI, shrunk to ``side`` if larger."""
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def _shorten(label: str) -> str:
    """Shortens a version for display: ``demo@ed600e47``."""
    name, at, version = label.partition("@")
    return f"{name}@{version[:8]}" if at else label


def read_losses(metrics: bytes) -> list[tuple[int, float]]:
    """Reads step and loss from every complete line of ``metrics.jsonl`` that has both."""
    losses: list[tuple[int, float]] = []
    for line in metrics.decode().splitlines():
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut the last line short
        if isinstance(row.get("loss"), (int, float)) and math.isfinite(row["loss"]):
            losses.append((int(row["step"]), float(row["loss"])))
    return losses
