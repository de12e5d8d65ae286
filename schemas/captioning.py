"""Parameters of captioning."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from schemas.base import Operational, Schema
from schemas.layout import Layout

MAX_WORDS = 512
"""Maximum number of words per caption; the prompt asks for no more."""


class CaptionerParams(Schema):
    """Captioning model and how it is reached."""

    kind: str = "local"
    """``local``: transformers; ``server``: OpenAI-compatible; ``existing``: texts of the source; or
    the name of another captioner in ``iclora/captioning/captioners``."""

    model: str = "miniature/vlm"
    """Folder or hub id (local), or the server's model name."""

    url: Annotated[str, Operational] = ""
    """Base URL of the server, such as ``http://127.0.0.1:8000/v1``."""

    api_key_env: Annotated[str, Operational] = "ICLORA_CAPTIONER_KEY"
    """Environment variable that holds the server's key; the key itself is never a parameter."""

    batch: PositiveInt = 8
    """Batch size of a local model, in pictures."""

    concurrency: Annotated[PositiveInt, Operational] = 8
    """Maximum number of concurrent requests to a server."""

    max_new_tokens: PositiveInt = 768
    """Maximum length of an answer in tokens."""

    timeout_seconds: Annotated[PositiveFloat, Operational] = 120.0
    """Timeout per request, in seconds."""

    max_side: PositiveInt = 768
    """Maximum side of a picture sent to the captioner, in pixels; larger ones are shrunk."""

    retries: Annotated[NonNegativeInt, Operational] = 7
    """Retries per request when the server is busy, broken or silent. Seven take about two minutes,
    enough for a server to restart."""

    backoff_seconds: Annotated[PositiveFloat, Operational] = 1.0
    """Seconds before the first retry; doubled each time, unless the server sends a delay."""

    json_output: bool = True
    """Ask the server for JSON of a given schema; dropped if it does not offer that."""


class CaptionParams(Schema):
    """Caption format and how captions are made."""

    task: str = "movie-shots"
    """Name of the task, as in ``iclora/presets``."""

    prefix: str = "[MOVIE-SHOTS]"
    """Prefix of every caption; empty for tasks without one."""

    mode: Literal["panels", "canvas"] = "panels"
    """``panels``: one call per panel, then a merge; ``canvas``: one call on the canvas."""

    merge: Literal["model", "rules"] = "model"
    """``rules`` joins the panels' texts by rule, for captioners that only describe pictures.

    A local captioner whose chat template leaves the prompt out is always merged so.
    """

    summary: Literal["looks", "story", "both"] = "looks"
    """``looks``: what panels share (persons' looks, place, light) is told once; ``story``: who does
    what, and an adapter has to learn from the pictures what belongs together; ``both``: a
    quarter of the sets tell looks, so that an adapter also keeps to what is told."""

    captioner: CaptionerParams = CaptionerParams()
    max_words: Annotated[int, Field(ge=1, le=MAX_WORDS)] = MAX_WORDS
    """Maximum caption length in words."""

    max_tokens: PositiveInt = 512
    """Maximum caption length in tokens of the target base's tokenizer."""

    tokenizer: str = ""
    """Folder or hub id of the target base's tokenizer; without it an upper bound is used."""

    attempts: PositiveInt = 3
    """Attempts per set; each prompt names the fault of the previous answer."""

    names: tuple[str, ...] = ()
    """Names for roles; empty takes the package's list of first names."""

    forbidden_names: Annotated[str, Operational] = ""
    """File with additional forbidden names, one per line."""

    check_adherence: bool = False
    """Panel i's text must fit panel i best, by CLIP (the model of ``filter.clip``)."""


class CaptionStageParams(Schema):
    """Everything that the captions of a source depend on, apart from its canvases."""

    caption: CaptionParams
    layout: Layout
    captioner: str = ""
    """Label of the captioner; empty if every set has a caption or none is to be written."""

    forbidden_names_sha256: str = ""
    """Digest of the user's list of forbidden names; empty without one."""

    clip: Annotated[str, Operational] = ""
    """Folder or hub id of the CLIP model of the adherence check; empty without the check."""

    clip_revision: str = ""
    """Label of that model."""

    tokens_counted_by: str = ""
    """Tokenizer, or the description of the upper bound that replaces it."""
