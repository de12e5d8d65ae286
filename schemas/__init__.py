"""The nouns of iclora: frozen values that cross a border (disk, process, Prefect, command line).

Nothing here computes; nothing here imports more than pydantic and the standard library.

Glossary (one word per thing; the same words in code, files, messages and docs):

* source: one thing to ingest: a film, a folder of frames, an archive, a dataset, caption folder
* parcel: consecutive small sources that share the task runs of a build
* shot: contiguous frames between two cuts of a source
* frame: one picture kept from a shot, with its provenance
* scene: a run of neighbouring shots that belong together
* set: an ordered tuple of frames of one scene; the unit of everything after sifting
* panel: a frame's place in the canvas
* layout: rows x columns, panel size and the marker of each panel
* canvas: the stitched picture of a set; ``split(stitch(set)) == set``
* caption: prefix, summary and one part per panel behind its marker
* sample: one record of a shard: canvas, caption, metadata
* verdict: kept, rejected(reason) or failed(reason); one per item and stage
* ledger: the verdicts of a stage added up; in = kept + rejected + failed
* dataset version: an immutable folder of shards named by the digest of what is in it
* adapter: a trained LoRA with its run record
* render: a set drawn by a model; sheet: a contact sheet of renders
* report: an evaluation; decision: promoted or refused; champion: the adapter in production
* miniature: the small model family that lives in the package
"""
