"""Redaction of secrets in URLs and in texts of others, before they are shown or stored.

Everything that is not known to be harmless is hidden. A password that is shown once is in a log, in
a terminal and perhaps in a published dataset; a hidden query costs its reader little.
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
"""Replacement for a secret."""

_SHORTEST: Final = 8
"""Minimum characters of a secret: a shorter word occurs in unrelated texts."""

_SHORTEST_PASSWORD: Final = 4
"""Minimum characters of a secret that a caller names."""

_HARMLESS: Final = frozenset(
    {"dl", "download", "format", "page", "raw", "ref", "rev", "revision", "v", "version"}
    | {"versionid"}  # of S3
)
"""Query parameters that select content and grant no access."""

_NOT_USERS: Final = frozenset({"hf", "github"})
"""Schemes whose ``@`` separates a revision or a repository."""

_LOCAL: Final = frozenset({"file", "local", "memory"})

_CHAIN = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.\-]{0,30}(?:::|://))")
"""Separator of fsspec's chains, such as ``zip://film.mp4::https://host/films.zip``."""

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
"""Secret after its name; a short word after a colon or a space is none."""

_BEARER = re.compile(r"(?i)\b(bearer\s+)(?=[^\s\"',;<>]*\d)[^\s\"',;<>]{8,}")
_KNOWN = re.compile(
    r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[opsru]_\w{16,}|github_pat_\w{16,}|A[KS]IA[A-Z0-9]{16}"
    r"|AIza[\w-]{30,}|xox[a-z]-[\w-]{10,})"
)
"""Keys in the formats of well-known services."""

_VARIABLE = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$")


_LONGEST_NUMBER: Final = 10**12
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ][\d:.]{4,15})?|\d\d:\d\d:\d\d")


def redact_url(url: str) -> str:
    """Hides the users, passwords, signatures and tokens in a URL.

    Args:
        url: a URL, or a chain of them as fsspec takes it; a local path is returned unchanged.

    Returns:
        The URL without its user information, and without its query or fragment unless they are
        known to be harmless. Two URLs that differ only in secrets give the same text.
    """
    return "::".join(map(_redact_one, _CHAIN.split(url)))


def redact_users(text: str) -> str:
    """Hides the user information of the URLs in a text and leaves the rest unchanged."""

    def hide(match: re.Match[str]) -> str:
        scheme, mark, rest = match[0].partition("://")
        end = 0 if scheme.lower() in _NOT_USERS | _LOCAL else _user_end(rest)
        return f"{scheme}{mark}{HIDDEN}@{rest[end:]}" if end else match[0]

    return _URL.sub(hide, text)


def redact_text(text: str, secrets: Iterable[str] = ()) -> str:
    """Hides the secrets in a text: in URLs, after names such as ``token=``, and known ones.

    Args:
        text: a sentence, an error's text, a server's answer.
        secrets: secrets that the caller knows, in addition to those of the environment.
    """
    # Variables that hold a secret by their name; paths and short words are none.
    hidden = {
        value
        for name, value in os.environ.items()
        if _VARIABLE.search(name.upper()) and len(value) >= _SHORTEST and not value.startswith("/")
    }
    for secret in secrets:
        if len(secret) >= _SHORTEST_PASSWORD:
            hidden |= {secret, quote(secret, safe=""), json.dumps(secret)[1:-1]}
    for secret in sorted(hidden, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)

    def redact(match: re.Match[str]) -> str:
        url = match[0].rstrip(".,;:!)]}")
        return redact_url(url) + match[0][len(url) :]

    text = _URL.sub(redact, text)
    text = _NAMED.sub(rf"\1\2{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, _BEARER.sub(rf"\1{HIDDEN}", text))


def tell_value(value: object, words: Collection[str] = ()) -> str:
    """Describes a value that may be a secret; numbers, dates and known words are shown.

    Args:
        value: value of a setting in a file of others.
        words: texts that may be shown.

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


def url_secrets(url: str) -> tuple[str, ...]:
    """Returns a URL's secrets in the forms in which an error may quote them without the URL."""
    passwords: set[str] = set()
    words: set[str] = set()
    for part in _CHAIN.split(url):
        scheme, mark, rest = part.partition("://")
        if not mark or scheme.lower() in _LOCAL:
            continue
        location, query, fragment = _split(rest)
        user = (
            location[: _user_end(location)].rstrip("@") if scheme.lower() not in _NOT_USERS else ""
        )
        passwords |= {user, user.partition(":")[2]}
        if query and not _is_harmless(query):
            words |= {query, *(pair.partition("=")[2] for pair in query.split("&"))}
        if fragment and not _ANCHOR.fullmatch(fragment):
            words.add(fragment)
    secrets = {word for word in passwords if len(word) >= _SHORTEST_PASSWORD}
    secrets |= {word for word in words if len(word) >= _SHORTEST}
    return tuple(
        sorted({form(secret) for secret in secrets for form in (str, unquote, unquote_plus)})
    )


def _redact_one(url: str) -> str:
    scheme, mark, rest = url.partition("://")
    if not mark or scheme.lower() in _LOCAL:
        return url
    location, query, fragment = _split(rest)
    if scheme.lower() not in _NOT_USERS and (end := _user_end(location)):
        location = f"{HIDDEN}@{location[end:]}"
    if query:
        location += f"?{query if _is_harmless(query) else HIDDEN}"
    if fragment:
        location += f"#{fragment if _ANCHOR.fullmatch(fragment) else HIDDEN}"
    return f"{scheme}://{location}"


def _split(rest: str) -> tuple[str, str, str]:
    """Splits the text after ``://`` into authority with path, query and fragment."""
    end = _user_end(rest)  # a password may hold a ? or a #
    match = _PARTS.fullmatch(rest[end:])
    assert match is not None, "the pattern matches every text"
    return rest[:end] + match[1], match[2] or "", match[3] or ""


def _user_end(rest: str) -> int:
    """Returns the position of the host after ``user:password@``; 0 if there is no user.

    By the rules of URLs, a ``/``, ``?`` or ``#`` in a password ends the authority too early.
    Therefore text that is no host with a port counts as a user if an ``@`` follows.
    """
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority.rindex("@") + 1
    return 0 if _PORT_OR_NOTHING.fullmatch(authority) else rest.rfind("@") + 1


def _is_harmless(query: str) -> bool:
    """Checks that all parameters of a query select content and have plain values."""
    pairs = [pair.partition("=") for pair in re.split("[&;]", query) if pair]
    return all(
        name.lower() in _HARMLESS and re.fullmatch(r"[\w.%/-]{0,64}", value)
        for name, _, value in pairs
    )
