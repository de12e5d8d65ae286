"""The report in a real browser: it renders, complains of nothing, asks for nothing outside."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

CLICKS = """<script>
document.querySelector(".zoom").click();
const seen = {
  open: document.getElementById("large").open,
  words: document.querySelector("dialog dl").innerText.length,
  picture: document.querySelector("dialog img").naturalWidth,
  broken: [...document.images].filter((i) => i.src && i.complete && !i.naturalWidth).length,
  wide: document.documentElement.scrollWidth > window.innerWidth,
  focus: document.activeElement.textContent,
};
document.title = "seen " + JSON.stringify(seen);
</script></body>"""


@pytest.fixture
def browser(tmp_path):
    """Runs headless Chromium; gives what it wrote and what it asked the network for."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("there is no Chromium on this machine")

    def run(page: Path, *flags: str) -> tuple[str, str, list[str]]:
        net = tmp_path / "net.json"
        command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += ["--disable-background-networking", "--disable-component-update"]
        command += ["--enable-logging=stderr", f"--log-net-log={net}", *flags, page.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        events = json.loads(net.read_text())["events"]
        # The browser's own chatter has no page as its initiator.
        told = [e["params"] for e in events if "url" in e.get("params", {})]
        asked = [t["url"] for t in told if t.get("initiator", "not an origin") != "not an origin"]
        return done.stdout, done.stderr, [url for url in asked if url.startswith("http")]

    return run


@pytest.fixture
def page(evaluated) -> Path:
    world, ref = evaluated
    return Path(world.store.path(f"reports/{ref.name}/{ref.version}/report.html"))


@pytest.mark.parametrize("size", ["1280,900", "360,740"])
def test_it_renders_and_a_picture_opens_with_its_caption(browser, page, size):
    clicked = page.with_name("clicked.html")
    clicked.write_text(page.read_text().replace("</body>", CLICKS))
    dom, said, asked = browser(clicked, f"--window-size={size}", "--dump-dom")
    title = dom.split("<title>")[1].split("</title>")[0]
    seen = json.loads(title.removeprefix("seen ").replace("&quot;", '"'))
    assert seen["open"]
    assert seen["words"] > 20
    assert seen["picture"] > 0
    assert seen["broken"] == 0
    assert not seen["wide"]
    assert seen["focus"] == "Close"
    assert "CONSOLE" not in said
    assert asked == []


def test_a_page_that_asks_for_something_is_caught(browser, tmp_path):
    """The control of the test above."""
    nosy = tmp_path / "nosy.html"
    nosy.write_text('<img src="http://127.0.0.1:9/pixel.png">')
    _, _, asked = browser(nosy, "--dump-dom")
    assert asked
    assert set(asked) == {"http://127.0.0.1:9/pixel.png"}


@pytest.mark.parametrize("scheme", [0, 1], ids=["dark", "light"])
def test_it_has_a_dark_and_a_light_face(browser, page, tmp_path, scheme):
    from PIL import Image

    shot = tmp_path / "shot.png"
    browser(page, f"--blink-settings=preferredColorScheme={scheme}", f"--screenshot={shot}")
    corner = sum(Image.open(shot).convert("RGB").getpixel((2, 2))) / 3
    assert (corner < 60) == (scheme == 0)
    assert (corner > 200) == (scheme == 1)
