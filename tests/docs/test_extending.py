"""The pages on writing a source, a check, a captioner, a family and a scorer work as they say."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SOURCE, CHECK, CAPTIONER, FAMILY, SCORER = PAGES = [
    f"docs/write-a-{name}.md"
    for name in ("source", "quality-check", "captioner", "model-family", "scorer")
]
SHOTS = 12


@pytest.fixture
def tree(tmp_path, seed_place, blocks):
    """Gives a copy of the packages with a page's files and changes in it."""

    def make(page: str) -> Path:
        here = tmp_path / "tree"
        for package in ("schemas", "iclora"):
            shutil.copytree(ROOT / package, here / package)
        shutil.copytree(seed_place, here, dirs_exist_ok=True)
        np.save(here / "frames.npy", scenes())
        for block in blocks(page):
            if block.language == "diff":
                apply = ["git", "apply", "-C1", "-"]
                subprocess.run(apply, cwd=here, input=block.text, text=True, check=True)
            elif block.word not in ("", "slow", "elsewhere"):
                (here / block.word).write_text(block.text, encoding="utf-8")
        return here

    return make


def scenes() -> np.ndarray:
    """A frame of each of a film's first shots."""
    from iclora.miniature.film import film_frame
    from iclora.miniature.script import film_script

    film = film_script(1)
    return np.stack([np.asarray(film_frame(film, shot, 3)) for shot in film.shots[:SHOTS]])


def python(here: Path, code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=here, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("page", PAGES)
def test_its_files_and_changes_fit_the_code(page, tree, blocks):
    here = tree(page)
    ours = [b.word for b in blocks(page) if b.language == "python" and "/" in b.word]
    lint = ["ruff", "check", "--quiet", "--config", str(ROOT / "pyproject.toml")]
    ignored = ["--ignore", "D100,PLR2004,S603"]  # a page is read beside its text
    subprocess.run([Path(sys.executable).parent / lint[0], *lint[1:], *ignored, *ours],
                   cwd=here, check=True)  # fmt: skip


def test_the_source_is_read(tree):
    said = python(
        tree(SOURCE),
        "import os\n"
        "from iclora.ingest import ingest_source, resolve_sources\n"
        "from iclora.presets import load_config\n"
        "from iclora.pipeline.stage import result_of\n"
        "from iclora.store import Store\n"
        "from schemas.stage import Ingested\n"
        "store, config = Store('store'), load_config('miniature')\n"
        "os.mkdir('stacks')\n"
        "os.rename('frames.npy', 'stacks/a.npy')\n"
        "open('stacks/b.npy', 'wb').write(b'no array')\n"
        "sources, _ = resolve_sources(['stacks'], config.ingest)\n"
        "for source in sources:\n"
        "    found = result_of(store, ingest_source(store, source, config), Ingested)\n"
        "    print(len(found.frames), [v.reason for v in found.verdicts])\n",
    )
    assert said.splitlines() == [f"{SHOTS} {[''] * SHOTS}", "0 ['bad_stack']"]


def test_the_check_rejects_frames_of_a_build(tree):
    """The page's setting splits the frames that the built-in checks let through."""
    said = python(
        tree(CHECK),
        "from iclora.filtering import calibrate, calibration_page\n"
        "from iclora.build import build_dataset\n"
        "from iclora.pipeline.stage import result_of\n"
        "from iclora.presets import load_config\n"
        "from iclora.store import Store\n"
        "from schemas.stage import Scored, StageRef\n"
        "store, old = Store('store'), set(Store('store').listdir('stages/quality'))\n"
        "config = load_config('miniature', ['filter.quality.extra.min_colorfulness=60'])\n"
        "build_dataset(store, ['films'], config, 'vivid')\n"
        "new = sorted(set(store.listdir('stages/quality')) - old)\n"
        "refs = [StageRef(stage='quality', digest=digest) for digest in new]\n"
        "for ref in refs:\n"
        "    scored = result_of(store, ref, Scored)\n"
        "    for verdict in scored.verdicts:\n"
        "        value = scored.scores[verdict.id]['colorfulness']\n"
        "        print(verdict.reason, value, verdict.value, verdict.threshold)\n"
        "page = calibration_page(store, refs, calibrate(store, refs, config), config)\n"
        "assert 'just outside min_colorfulness = 60' in page\n",
    )
    lines = [line.split(" ") for line in said.splitlines()]
    colorless = [values for reason, *values in lines if reason == "colorless"]
    kept = [values for reason, *values in lines if not reason]
    assert colorless
    assert kept
    assert all(float(value) < 60 for value, _, _ in colorless)
    assert all((value, threshold) == (told, "60.0") for value, told, threshold in colorless)
    assert all(float(value) >= 60 for value, _, _ in kept)


def test_the_captioner_answers(tree):
    here = tree(CAPTIONER)
    said = python(
        here,
        "import io\n"
        "from PIL import Image\n"
        "from iclora.captioning.captioners import Request, load_captioner\n"
        "from schemas.captioning import CaptionerParams\n"
        "file = io.BytesIO()\n"
        "Image.new('RGB', (8, 8), (250, 200, 90)).save(file, 'JPEG')\n"
        "one = Request((file.getvalue(),), 'Describe the picture.')\n"
        f"good, bad = {sys.executable + ' describe.py'!r}, {sys.executable + ' missing.py'!r}\n"
        "for model in (good, bad):\n"
        "    params = CaptionerParams(kind='program', model=model)\n"
        "    ((_, reply),) = load_captioner(params).ask([one])\n"
        "    print(reply)\n",
    )
    good, bad = said.splitlines()
    assert "a warm picture of a person in bright light" in good
    assert bad.startswith("Failure(reason='nonsense'")


def test_the_family_changes_the_attention(tree):
    said = python(
        tree(FAMILY),
        "import re, torch\n"
        "from iclora.models.families import load_family\n"
        "from iclora.presets import load_config\n"
        "family = load_family(load_config('attention-only').base.family)\n"
        "model = family.meta_transformer()\n"
        "linears = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]\n"
        "print(sum(bool(re.fullmatch(family.lora_targets, name)) for name in linears))\n",
    )
    assert int(said) == 19 * 8 + 38 * 3


def test_the_scores_are_in_the_report(tree, family):
    """An adapter of random weights on a tiny base, evaluated by the code with the scorer in it."""
    here = tree(SCORER)
    values = python(
        here,
        "import runpy\n"
        "from pathlib import Path\n"
        "from iclora.evaluate import evaluate_adapter, read_report\n"
        "from iclora.miniature.flux_folder import build_flux, save_flux\n"
        "from iclora.miniature.sizes import TINY\n"
        "from iclora.presets import load_config\n"
        "from iclora.store import Store\n"
        f"worlds = runpy.run_path({str(ROOT / 'tests/evaluation/conftest.py')!r})\n"
        "save_flux(build_flux(TINY), Path('flux'))\n"
        "config = load_config('miniature', {\n"
        "    'base.model': str(Path('flux').absolute()),\n"
        "    'layout.panel_width': 32, 'layout.panel_height': 32, 'sample.steps': 1,\n"
        f"    'evaluate.clip': {str(family / 'clip')!r}, 'evaluate.seeds': [1],\n"
        "    'evaluate.conditional_prompts': 0, 'evaluate.bootstrap_resamples': 100})\n"
        "store = Store('evaluated')\n"
        "world = worlds['make_world'](store, config, Path('flux'))\n"
        "world.publish(train=range(2), val=range(50, 53))\n"
        "world.add_adapter('v1', scale=0.3)\n"
        "ref = evaluate_adapter(store, 'film')\n"
        "report = read_report(store, ref)\n"
        "print(report.judges['colorfulness'], 'colorfulness' in report.paired['base'])\n"
        "print(*[arm.scores['colorfulness'].value for arm in report.arms\n"
        "        if 'colorfulness' in arm.scores])\n"
        "print('<h3>Colorfulness</h3>' in Path(ref.url, 'report.html').read_text())\n",
    ).splitlines()
    assert values[0] == "colorfulness@1 True"
    adapter, base, real = map(float, values[1].split())
    assert min(adapter, base, real) > 0
    assert values[2] == "True"


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_its_commands_work(page, tree, blocks):
    here = tree(page)
    for block in blocks(page):
        if block.word == "slow":
            text = re.sub(
                r"^iclora ", f"{sys.executable} -m iclora ", block.text, flags=re.MULTILINE
            )
            text = text.replace("model=python ", f"model={sys.executable} ")
            subprocess.run(["bash", "-euo", "pipefail", "-c", text], cwd=here, check=True)
