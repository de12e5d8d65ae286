"""Secrets taken out of URLs and of other people's texts before anybody reads or stores them.

Decided: what is not known to be harmless is hidden. A password that is shown once is in a log, in
a terminal and perhaps in a published dataset; a query that is hidden costs its reader little.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterable
from datetime import date, time
from typing import Final
from urllib.parse import quote, unquote, unquote_plus

HIDDEN: Final = "***"
"""Stands where a secret was."""

_SHORTEST: Final = 8
"""Characters: a shorter word is in many texts that have nothing to do with it."""

_SHORTEST_PASSWORD: Final = 4
"""Characters of a secret that a caller is sure of."""

_HARMLESS: Final = frozenset(
    {"dl", "download", "format", "page", "raw", "ref", "rev", "revision", "v", "version"}
    | {"versionid"}  # of S3
)
"""Query parameters that choose what is served, not who may have it."""

_NOT_USERS: Final = frozenset({"hf", "github"})
"""Schemes that have a revision or a repository around their ``@``."""

_LOCAL: Final = frozenset({"file", "local", "memory"})

_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.\-]{0,30}(?:::|://))")
"""Between the parts of fsspec's chains, such as ``zip://film.mp4::https://host/films.zip``."""

_URL = re.compile(r"""(?<![A-Za-z0-9])[A-Za-z][A-Za-z0-9+.\-]{0,30}://[^\s"'<>`]+""")
_PARTS = re.compile(r"([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.DOTALL)
_PORT_OR_NOTHING = re.compile(r"(?:\[[^\]]*\]|[^:\[\]]*)(?::\d*)?")
_ANCHOR = re.compile(r"[A-Za-z_-]{0,60}")

_NAMED = re.compile(
    r"""(?ix) (?<![a-z0-9])
    ( (?:[a-z0-9]+[_-])* (?:api_?key|access_?key|secret|token|password|passwd|pwd|signature|sig
        |credential) | authorization )
    ( ["']? = ["']? | ["']? \s? [=:] \s? ["']? (?:(?:bearer|basic|token)\s)? (?=[^\s"'&,;<>]{6}) )
    (?!\.\.\.) [^\s"'&,;<>]+"""
)
"""A secret with its name before it; behind a colon or a space a short word is none."""

_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=[^\s\"',;<>]*\d)[^\s\"',;<>]{8,}")
_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[opsru]_\w{16,}|github_pat_\w{16,}|A[KS]IA[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|xox[a-z]-[\w-]{10,})"
)
"""Keys that well-known services give out."""

_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")


def redact_url(url: str) -> str:
    """Hides what a URL has of users, passwords, signatures and tokens.

    Args:
        url: a URL, or a chain of them as fsspec takes it; a local path is returned as it is.

    Returns:
        The URL without its user information and without every query parameter that is not known
        to be harmless; the same text for the same place, whoever may read it and until when.
    """
    return "::".join(map(_redact_one, _CHAIN.split(url)))


def redact_users(text: str) -> str:
    """Hides the user information of the URLs in a text and leaves everything else as it is."""

    def hide(found: re.Match[str]) -> str:
        scheme, mark, rest = found[0].partition("://")
        end = 0 if scheme.lower() in _NOT_USERS | _LOCAL else _user_end(rest)
        return f"{scheme}{mark}{HIDDEN}@{rest[end:]}" if end else found[0]

    return _URL.sub(hide, text)


def redact_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Hides the secrets in a text: in its URLs, behind telling names, and those that are known.

    Args:
        text: a sentence, an error's text, a server's answer.
        secrets: those that the caller knows; the environment's are known anyway.
    """
    sure = [secret for secret in secrets if len(secret) >= _SHORTEST_PASSWORD]
    known = {form for one in sure for form in (one, quote(one, safe=""), json.dumps(one)[1:-1])}
    for secret in sorted(known | _environment_secrets(), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    text = _URL.sub(_redact_match, text)
    text = _NAMED.sub(rf"\1\2{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, _BEARER.sub(rf"\1{HIDDEN}", text))


def tell_value(value: object, words: Collection[str] = ()) -> str:
    """A value that may be a secret, as a sentence may have it: numbers, dates and known words.

    Args:
        value: of a setting in somebody's file.
        words: texts that may be told.

    Returns:
        The value itself, or its kind.
    """
    if value is None or isinstance(value, bool | float):
        return repr(value)
    if isinstance(value, int):
        return repr(value) if abs(value) < _LONGEST_NUMBER else "a number of many digits"
    if isinstance(value, date | time) or (isinstance(value, str) and _DATE.fullmatch(value)):
        return f"'{value}'"
    if isinstance(value, str):
        return repr(value) if value in words else "a text"
    if isinstance(value, list | tuple):
        return "a list"
    return "a table" if isinstance(value, dict) else "something else"


_LONGEST_NUMBER: Final = 10**12
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]{4,15})?|\d\d:\d\d:\d\d")


def url_secrets(url: str) -> tuple[str, ...]:
    """The secrets of a URL, as an error's text may have them without the URL around them."""
    passwords: set[str] = set()
    words: set[str] = set()
    for part in _CHAIN.split(url):
        scheme, mark, rest = part.partition("://")
        if not mark or scheme.lower() in _LOCAL:
            continue
        place, query, fragment = _taken_apart(rest)
        user = place[: _user_end(place)].rstrip("@") if scheme.lower() not in _NOT_USERS else ""
        passwords |= {user, user.partition(":")[2]}
        if query and not _is_harmless(query):
            words |= {query, *(pair.partition("=")[2] for pair in query.split("&"))}
        if fragment and not _ANCHOR.fullmatch(fragment):
            words.add(fragment)
    found = {word for word in passwords if len(word) >= _SHORTEST_PASSWORD}
    found |= {word for word in words if len(word) >= _SHORTEST}
    return tuple(
        sorted({form(secret) for secret in found for form in (str, unquote, unquote_plus)})
    )


def _redact_one(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() in _LOCAL:
        return url
    place, query, fragment = _taken_apart(rest)
    if scheme.lower() not in _NOT_USERS and (end := _user_end(place)):
        place = f"{HIDDEN}@{place[end:]}"
    if query:
        place += f"?{query if _is_harmless(query) else HIDDEN}"
    if fragment:
        place += f"#{fragment if _ANCHOR.fullmatch(fragment) else HIDDEN}"
    return f"{scheme}://{place}"


def _taken_apart(rest: str) -> tuple[str, str, str]:
    """Authority and path, query, fragment of what stands behind ``://``."""
    end = _user_end(rest)  # a password may hold a ? or a #
    found = _PARTS.fullmatch(rest[end:])
    assert found is not None, "the pattern takes every text"
    return rest[:end] + found[1], found[2] or "", found[3] or ""


def _user_end(rest: str) -> int:
    """Where the host begins behind ``user:password@``; 0 if there is no user.

    A password with a ``/``, ``?`` or ``#`` in it ends the authority too early for the rules of
    URLs: what is no host with a port is taken for a user if an ``@`` follows.
    """
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rindex("@") + 1
    return 0 if _PORT_OR_NOTHING.fullmatch(authority) else rest.rfind("@") + 1


def _is_harmless(query: str) -> bool:
    """Every parameter of it is one that chooses, with a value of a plain kind."""
    pairs = [pair.partition("=") for pair in re.split("[&;]", query) if pair]
    return all(
        name.lower() in _HARMLESS and re.fullmatch(r"[\w.%/-]{0,64}", value)
        for name, _, value in pairs
    )


def _redact_match(found: re.Match[str]) -> str:
    url = found[0].rstrip(".,;:!)]}")
    return redact_url(url) + found[0][len(url) :]


def _environment_secrets() -> set[str]:
    """Values of the variables that hold a secret by their name; paths and short words are none."""
    return {
        value
        for name, value in os.environ.items()
        if _VARIABLE.search(name.upper()) and len(value) >= _SHORTEST and not value.startswith("/")
    }
