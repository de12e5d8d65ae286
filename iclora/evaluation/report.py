"""The report: ``report.json`` for machines, ``report.html`` for people, ``sheets/`` for both.

The HTML is one file that asks nothing of any network (its own content-security policy forbids it):
pictures are data URIs, plots are inline SVG, and every text that came from outside is escaped by
the template engine.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from iclora.evaluation.contest import Contest
from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.findings import Findings, resampling
from iclora.evaluation.judges import MINIATURE, Judges
from iclora.evaluation.plots import TITLES, differences, loss_curve, score_plots
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.suite import Suite, structured
from iclora.sampling.sheet import contact_sheet
from iclora.store import file_sha256
from schemas.evaluation import EvaluationReport, ReportManifest, SetReport
from schemas.sampling import RenderRecord

TEMPLATE = "report.html.j2"
_ROWS_A_SHEET = 12
_COMPLETED = 8
"""Conditional renders shown."""

_QUALITY = 85


class Material(NamedTuple):
    """What a report is made of."""

    contest: Contest
    suite: Suite
    renders: Mapping[str, Renders]
    findings: Findings
    judges: Judges
    training: Mapping[str, Image.Image]
    """Canvases of the training sets that renders lie nearest to, by key."""

    losses: Sequence[tuple[int, float]]
    """Step and loss of the adapter's training; empty without a run record."""


def write_report(folder: Path, version: str, material: Material) -> ReportManifest:
    """Fills a report's folder.

    Args:
        folder: empty.
        version: of the report.
        material: what is reported.

    Returns:
        The manifest, which the caller writes last.
    """
    sheets = _write_sheets(folder / "sheets", material)
    report = assemble(material, sheets)
    (folder / "report.json").write_text(report.to_text(), encoding="utf-8")
    (folder / "report.html").write_text(render_html(report, material), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    return ReportManifest(
        name=material.contest.name,
        version=version,
        outcome=report.decision.outcome,
        digests=digests,
    )


def assemble(material: Material, sheets: Sequence[str]) -> EvaluationReport:
    """``report.json``'s content."""
    contest, findings = material.contest, material.findings
    sample, free = contest.config.sample, material.renders[ADAPTER].free
    judge_is_small = contest.config.evaluate.clip.startswith(MINIATURE)
    return EvaluationReport(
        adapter=contest.adapter.label,
        against=contest.rival.label if contest.rival.uses else "base",
        dataset=contest.dataset,
        base=free[0][0].base,
        preview=judge_is_small and not contest.config.base.model.startswith(MINIATURE),
        decision=findings.decision,
        scores=findings.arms[ADAPTER].scores,
        arms=tuple(findings.arms.values()),
        paired=findings.paired,
        remarks=findings.remarks,
        agreement=findings.agreement,
        worst=tuple(_set_report(free[n][k], rank) for n, k, rank in findings.worst),
        nearest=tuple(_set_report(free[n][k], near, key) for n, k, near, key in findings.nearest),
        judges=material.judges.labels(),
        params=contest.config.evaluate,
        limits=findings.limits,
        sampling={
            "steps": float(sample.steps),
            "guidance": sample.guidance,
            "true_cfg": sample.true_cfg,
        },
        prompts=material.suite.prompts,
        sheets=tuple(sheets),
    )


def _set_report(record: RenderRecord, value: float, nearest: str = "") -> SetReport:
    return SetReport(
        key=record.key, caption=record.caption, seed=record.seed, value=value, nearest=nearest
    )


def _write_sheets(folder: Path, material: Material) -> list[str]:
    """Contact sheets, adapter beside base and rival; a row a prompt, the first seed."""
    folder.mkdir(parents=True)
    sides = material.contest.sides
    names: list[str] = []
    side = material.contest.config.evaluate.sheet_side
    for start in range(0, len(material.suite.prompts), _ROWS_A_SHEET):
        prompts = material.suite.prompts[start : start + _ROWS_A_SHEET]
        rows = [
            [_canvas(material.renders[s.arm], start + number) for s in sides]
            for number in range(len(prompts))
        ]
        sheet = contact_sheet(rows, prompts, heads=[s.label for s in sides], side=side)
        name = f"sheet-{start // _ROWS_A_SHEET + 1:02}.jpg"
        sheet.save(folder / name, "JPEG", quality=_QUALITY, subsampling=0)
        names.append(f"sheets/{name}")
    return names


def _canvas(renders: Renders, prompt: int, seed: int = 0) -> Image.Image:
    return open_picture(renders.folder / renders.free[prompt][seed].canvas)


def render_html(report: EvaluationReport, material: Material) -> str:
    """``report.html``."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    return environment.get_template(TEMPLATE).render(**_context(report, material))


def _context(report: EvaluationReport, material: Material) -> dict[str, Any]:
    contest, findings = material.contest, material.findings
    return {
        "report": report,
        "contest": contest,
        "plots": score_plots(findings.arms),
        "titles": TITLES,
        "differences": {
            side.label: differences(findings.paired[side.arm], report.params.margins)
            for side in contest.sides
            if side.arm in findings.paired
        },
        "rows": _rows(material),
        "conditional": _conditional(material),
        "worst": _extremes(material, [(n, k) for n, k, _ in findings.worst]),
        "nearest": _extremes(material, [(n, k) for n, k, _, _ in findings.nearest]),
        "training": {key: _data_uri(image, material) for key, image in material.training.items()},
        "curve": loss_curve(material.losses),
        "withheld": material.suite.withheld,
        "resampling": resampling(report.params),
    }


class Card(NamedTuple):
    """A render as the page shows it."""

    label: str
    uri: str
    caption: str
    parts: tuple[tuple[str, str], ...]
    """Marker and text of every panel."""

    seed: int


def _card(material: Material, arm: str, record: RenderRecord) -> Card:
    label = next(side.label for side in material.contest.sides if side.arm == arm)
    config = material.contest.config
    parts = structured(record.caption, config).parts
    picture = open_picture(material.renders[arm].folder / record.canvas)
    pairs = tuple(zip(config.layout.markers, parts, strict=True))
    return Card(label, _data_uri(picture, material), record.caption, pairs, record.seed)


def _rows(material: Material) -> list[list[Card]]:
    """Per prompt one card a side, the first seed."""
    arms = [side.arm for side in material.contest.sides]
    count = len(material.suite.prompts)
    return [
        [_card(material, arm, material.renders[arm].free[prompt][0]) for arm in arms]
        for prompt in range(count)
    ]


def _conditional(material: Material) -> list[list[Card]]:
    """Per completed set one card a side."""
    arms = [side.arm for side in material.contest.sides]
    count = min(_COMPLETED, len(material.renders[ADAPTER].conditional))
    return [
        [_card(material, arm, material.renders[arm].conditional[number]) for arm in arms]
        for number in range(count)
    ]


def _extremes(material: Material, places: Sequence[tuple[int, int]]) -> list[Card]:
    free = material.renders[ADAPTER].free
    return [_card(material, ADAPTER, free[prompt][seed]) for prompt, seed in places]


def _data_uri(picture: Image.Image, material: Material) -> str:
    side = material.contest.config.evaluate.sheet_side
    small = picture.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def read_losses(journal: bytes) -> list[tuple[int, float]]:
    """Step and loss of every whole line of a ``metrics.jsonl`` that has both."""
    found: list[tuple[int, float]] = []
    for line in journal.decode().splitlines():
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut the last line short
        if isinstance(row.get("loss"), (int, float)) and math.isfinite(row["loss"]):
            found.append((int(row["step"]), float(row["loss"])))
    return found
