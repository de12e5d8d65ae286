"""Secrets are taken out of URLs and texts, and nothing else is."""

from __future__ import annotations

from datetime import date

import pytest

from iclora.redact import redact_text, redact_url, redact_users, tell_value, url_secrets

SECRET = "Zx9-s3cr3t"  # noqa: S105 - of nobody


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"https://user:{SECRET}@host/film.mp4", "https://***@host/film.mp4"),
        (f"https://{SECRET}@host:8080/film.mp4", "https://***@host:8080/film.mp4"),
        (f"https://user:a/{SECRET}?b#c@host/film.mp4", "https://***@host/film.mp4"),
        (f"ftp://user:{SECRET}@[::1]:21/film.mp4", "ftp://***@[::1]:21/film.mp4"),
        (f"https://host/film.mp4?X-Amz-Signature={SECRET}", "https://host/film.mp4?***"),
        (f"https://host/film.mp4?dl=1&sig={SECRET}", "https://host/film.mp4?***"),
        (f"https://host/film.mp4?{SECRET}", "https://host/film.mp4?***"),
        (f"https://host/film.mp4?v=1;sig={SECRET}", "https://host/film.mp4?***"),
        (f"https://host/film.mp4#access_token={SECRET}", "https://host/film.mp4#***"),
        (f"http://[::1]:80/film.mp4?sig={SECRET}", "http://[::1]:80/film.mp4?***"),
        (f"zip://a.mp4::https://u:{SECRET}@h/a.zip?s={SECRET}", "zip://a.mp4::https://***@h/a.zip?***"),
        (f"simplecache::s3://key:{SECRET}@bucket/a", "simplecache::s3://***@bucket/a"),
    ],
)  # fmt: skip
def test_a_urls_secrets_are_hidden(url, shown):
    assert redact_url(url) == shown
    assert redact_text(f"cannot read ({url}).") == f"cannot read ({shown})."
    assert redact_url(shown) == shown


@pytest.mark.parametrize(
    "url",
    [
        "/films/what?.mp4",
        "film#1@2.mp4",
        "file:///films/what?.mp4",
        "https://host/film.mp4",
        "https://host:8080/@scope/film.mp4",
        "https://host/film.mp4?dl=1&version=3",
        "https://host/help#install",
        "http://HOST:PORT/v1",
        "s3://bucket/films/{000000..000009}.tar",
        "hf://datasets/owner/name@main/film.mp4",
        "github://owner:name@main/film.mp4",
        "http://[::1]:8000/v1",
    ],
)
def test_a_url_without_secrets_stays(url):
    assert redact_url(url) == url
    assert redact_text(f"{url} does not exist") == f"{url} does not exist"


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"no such key: bearer {SECRET}",
        f'{{"api_key": "{SECRET}"}}',
        f"GET /film.mp4?X-Amz-Signature={SECRET}&x=1 HTTP/1.1",
        f"password={SECRET}",
        "Incorrect API key provided: sk-Zx9-s3cr3t0123456789.",
    ],
)
def test_a_secret_with_a_name_is_hidden_in_a_text(text):
    assert "s3cr3t" not in redact_text(text)


def test_known_secrets_are_hidden_wherever_they_are(monkeypatch):
    monkeypatch.setenv("SOMEBODYS_API_KEY", "a key of words")
    text = f"{SECRET} and a key of words"
    assert redact_text(text) == f"{SECRET} and ***"
    assert redact_text(text, [SECRET]) == "*** and ***"


def test_short_words_and_paths_of_the_environment_are_no_secrets(monkeypatch):
    monkeypatch.setenv("SOMEBODYS_TOKEN", "true")
    monkeypatch.setenv("SOMEBODYS_KEY", "/films/key.pem")
    assert redact_text("true of /films/key.pem") == "true of /films/key.pem"


def test_ordinary_sentences_stay():
    for text in (
        "--set takes section.key=value; the token: 3; key_variable=X; a bearer certificate",
        "export SOMEBODYS_API_KEY=... (any word if it needs none)",
    ):
        assert redact_text(text) == text


def test_the_secrets_of_a_url_are_told_as_an_error_may_have_them():
    url = "https://user:pass%20word@host/a?X-Amz-Signature=0123456789abcdef&dl=1"
    assert {"pass%20word", "pass word", "0123456789abcdef"} <= set(url_secrets(url))
    assert url_secrets("https://host/film.mp4?dl=1") == ()


def test_a_long_text_is_read_in_one_pass():
    text = "a" * 1_000_000 + "://" + "b" * 1_000_000
    assert redact_text(text) == text


def test_only_the_users_of_a_text_can_be_hidden():
    text = '{"a": "https://me:pw@host/?x=1", "b": "hf://owner@main/x", "c": "token=12345678"}'
    assert redact_users(text) == text.replace("me:pw", "***")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "3"),
        (2.5, "2.5"),
        (None, "None"),
        (False, "False"),
        ("adamw", "'adamw'"),
        ("adamww", "a text"),
        ("2030-01-01", "'2030-01-01'"),
        (date(2030, 1, 1), "'2030-01-01'"),
        (10**20, "a number of many digits"),
        (["adamw"], "a list"),
        ({"adamw": 1}, "a table"),
        (object(), "something else"),
    ],
)
def test_a_value_is_told_if_it_is_no_secret(value, told):
    assert tell_value(value, {"adamw"}) == told
