"""The demo's films come with a licence and are rendered once."""

from __future__ import annotations

from iclora.ingest import resolve_sources
from iclora.miniature import demo
from schemas.ingest import IngestParams


def test_the_films_are_sources_with_a_licence(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "FILMS", 2)
    folder = demo.render_demo(tmp_path / "films")
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    demo.render_demo(folder)
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    sources, _ = resolve_sources([str(folder)], IngestParams())
    assert [source.rights.licence for source in sources] == ["Apache-2.0"] * 2
