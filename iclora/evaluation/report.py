"""Report files: ``report.json`` for machines, ``report.html`` for people, ``sheets/`` for both.

The HTML is a single file without network access, enforced by its content security policy: images
are data URIs, plots are inline SVG, and the template engine escapes all external text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from iclora.evaluation.controls import ADAPTER
from iclora.evaluation.plots import TITLES, absent, differences, loss_curve, score_plots, tiles
from iclora.evaluation.renders import Renders, open_picture
from iclora.evaluation.report_images import QUALITY, ReportData, completed, data_uri, extremes, rows
from iclora.evaluation.rule import rule_digest
from iclora.evaluation.truth import PAIRS
from iclora.models.locate import is_demo
from iclora.sampling.contact_sheet import contact_sheet
from iclora.store import file_sha256
from schemas.evaluation import EvaluationReport, ReportManifest, SetReport
from schemas.sampling import RenderRecord

TEMPLATE = "report.html.j2"
_SHORT = 8
_ROWS_A_SHEET = 12


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
    report = assemble(data, sheets)
    (folder / "report.json").write_text(report.to_text(), encoding="utf-8")
    (folder / "report.html").write_text(render_html(report, data), encoding="utf-8")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    digests = {path.relative_to(folder).as_posix(): file_sha256(path) for path in files}
    return ReportManifest(
        name=data.plan.name,
        version=version,
        outcome=report.decision.outcome,
        digests=digests,
    )


def assemble(data: ReportData, sheets: Sequence[str]) -> EvaluationReport:
    """Assembles the content of ``report.json``."""
    plan, results = data.plan, data.results
    sample, free = plan.config.sample, data.renders[ADAPTER].free
    judge_is_small = is_demo(plan.config.evaluate.clip)
    return EvaluationReport(
        adapter=plan.adapter.label,
        against=plan.baseline.label if plan.baseline.adapters else "base",
        dataset=plan.dataset,
        base=free[0][0].base,
        preview=judge_is_small and not is_demo(plan.config.base.model),
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
    """Writes contact sheets of adapter, base, and rival; one row per prompt, first seed only."""
    folder.mkdir(parents=True)
    arms = data.plan.arms
    names: list[str] = []
    arm = data.plan.config.evaluate.sheet_side
    for start in range(0, len(data.prompts.prompts), _ROWS_A_SHEET):
        prompts = data.prompts.prompts[start : start + _ROWS_A_SHEET]
        rows = [
            [_canvas(data.renders[s.name], start + number) for s in arms]
            for number in range(len(prompts))
        ]
        sheet = contact_sheet(rows, prompts, heads=[s.label for s in arms], side=arm)
        name = f"sheet-{start // _ROWS_A_SHEET + 1:02}.jpg"
        sheet.save(folder / name, "JPEG", quality=QUALITY, subsampling=0)
        names.append(f"sheets/{name}")
    return names


def _canvas(renders: Renders, prompt: int, seed: int = 0) -> Image.Image:
    return open_picture(renders.folder / renders.free[prompt][seed].canvas)


def render_html(report: EvaluationReport, data: ReportData) -> str:
    """Renders ``report.html``."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pretty"] = _pretty
    environment.filters["short"] = short
    return environment.get_template(TEMPLATE).render(**_context(report, data))


def _context(report: EvaluationReport, data: ReportData) -> dict[str, Any]:
    plan, results = data.plan, data.results
    return {
        "report": report,
        "plan": plan,
        "plots": score_plots(results.arms),
        "titles": TITLES,
        "differences": {
            arm.label: differences(results.paired[arm.name], report.params.margins)
            for arm in plan.arms
            if arm.name in results.paired
        },
        "rows": rows(data),
        "conditional": completed(data),
        "worst": extremes(data, [(n, k) for n, k, _ in results.worst]),
        "nearest": extremes(data, [(n, k) for n, k, _, _ in results.nearest]),
        "training": {key: data_uri(image, data) for key, image in data.training.items()},
        "curve": loss_curve(data.losses),
        "withheld": data.prompts.withheld,
        "tiles": tiles(results.arms, results.paired[plan.baseline.name]),
        "absent": absent(results.arms),
        "unranked": _unranked(report),
    }


def _unranked(report: EvaluationReport) -> list[str]:
    """Lists metrics that cannot be assessed because the true score is constant."""
    ranked = {row.metric for row in report.agreement if not row.strangers}
    return [
        TITLES[metric][0]
        for metric, truth in PAIRS
        if truth in report.scores and metric not in ranked
    ]


def short(label: str) -> str:
    """Shortens a version for display: ``demo@ed600e47``."""
    name, at, version = label.partition("@")
    return f"{name}@{version[:_SHORT]}" if at else label


def _pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True)


def read_losses(journal: bytes) -> list[tuple[int, float]]:
    """Reads step and loss from every complete line of ``metrics.jsonl`` that has both."""
    found: list[tuple[int, float]] = []
    for line in journal.decode().splitlines():
        try:
            row: Any = json.loads(line)
        except json.JSONDecodeError:
            continue  # a kill cut the last line short
        if isinstance(row.get("loss"), (int, float)) and math.isfinite(row["loss"]):
            found.append((int(row["step"]), float(row["loss"])))
    return found
