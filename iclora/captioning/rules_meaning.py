"""Content rules of the caption linter: informative summary, English, no loops, no refusals."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

from iclora.captioning.caption_text import ROLE, CaptionText, Finding, Rule, word_set

_WORD = re.compile(r"[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}-][^\W\d_]+)*")

_STOP_WORDS = word_set(
    "a an the this that these those in on at of for to from by with and or but as is are was be "
    "being it its their his her our your my we us you they he she into onto over under through "
    "across within while where when which who whose then now here there so such very each every "
    "one two three four five six seven eight nine several many few some all both"
)
_HOLLOW = word_set(
    # names of the medium, not of its content
    "sequence sequences series set sets scene scenes shot shots frame frames panel panels moment "
    "moments image images picture pictures photo photos visual visuals narrative narratives story "
    "stories tale journey montage storyboard triptych collage grid layout film movie cinema "
    "cinematic animation animated clip clips part parts three-part two-part four-part multi-part "
    "piece collection group composition caption description display exploration experience "
    # generic praise
    "captivating delightful charming beautiful stunning striking vivid vibrant dynamic dramatic "
    "compelling engaging intriguing fascinating mesmerizing enchanting evocative memorable "
    "wonderful lovely amazing interesting unique remarkable heartwarming touching emotional "
    "powerful poignant adventurous whimsical immersive artistic creative thrilling exciting rich "
    # narration
    "begins begin beginning opens open opening starts start unfolds unfold unfolding follows "
    "follow following shows show showing depicts depict presents present presenting features "
    "feature captures capture captured tells telling takes take transitions transition overall "
    "various different consecutive sequential continuous"
)

_REFUSALS = re.compile(
    r"\bI(?:'m| am) (?:sorry|unable|not able)\b|\bI (?:cannot|can't|can not|won't)\b"
    r"|\bas an? (?:AI|artificial|language model)\b|\bno image (?:was |is )?(?:provided|attached)\b"
    r"|\b(?:cannot|can't|unable to) (?:assist|help|identify|describe|comply|view|see|process)\b",
    re.IGNORECASE,
)

_FUNCTION_WORDS: Final[dict[str, frozenset[str]]] = {
    "English": word_set("the a an of in on at with and is are his her to by from as under"),
    "French": word_set("le la les un une des du dans et est sur avec au aux qui il elle"),
    "German": word_set("der die das ein eine einer und ist im am mit auf den dem von zu"),
    "Spanish": word_set("el la los las un una en y es con de del por que su sobre al"),
    "Italian": word_set("il lo la i gli le un una di del della in e con che su nel"),
    "Portuguese": word_set("o a os as um uma de do da em e com que no na por seu"),
    "Dutch": word_set("de het een en van in op met is aan te zijn dat voor bij"),
}
_LAST_LATIN: Final = "\u024f"
"""Last character of the block Latin Extended-B."""

_MOST_FOREIGN_LETTERS: Final = 0.1
"""Maximum fraction of letters outside the Latin script. A caption may quote a shop sign, but not
a sentence."""

_MOST_BARE_WORDS: Final = 12
"""Maximum number of words without any function word ("a", "the", "of", "in") in a sentence."""

_GIBBERISH = re.compile(r"\S*\N{REPLACEMENT CHARACTER}\S*|\S*?([^\s.])\1{5,}\S*|[^\W\d_]{31,}")
"""Undecodable bytes, a character repeated six times in a row, or a word of more than 30 letters."""

_WORD_RUN: Final = 4
"""Number of consecutive repeats of a word that count as a loop ("very, very, very" is emphasis)."""

_PHRASE_RUN: Final = 3
_LONGEST_PHRASE: Final = 12
_GRAM: Final = 6
"""Length of word sequences that count as a loop if they occur more often than there are panels."""


def words_of(text: str) -> list[str]:
    """Returns the lowercase words of a text, without role names."""
    return [word.lower() for word in _WORD.findall(ROLE.sub(" ", text))]


def summary_empty(text: CaptionText) -> Finding | None:
    """Checks that the summary is specific to the set."""
    summary = text.caption.summary
    if any(word not in _STOP_WORDS and word not in _HOLLOW for word in words_of(summary)):
        return None
    return f'The summary "{summary}" says nothing of what the set shows.', 0


def refusal(text: CaptionText) -> Finding | None:
    """Checks that the caption is not a refusal."""
    match = _REFUSALS.search(text.line.replace("\N{RIGHT SINGLE QUOTATION MARK}", "'"))
    return (f'It is a refusal: "{match.group()}".', 0) if match else None


def gibberish(text: CaptionText) -> Finding | None:
    """Checks that the caption consists of words."""
    match = _GIBBERISH.search(text.line)
    return (f'"{match.group()[:20]}" is no word.', 0) if match else None


def language(text: CaptionText) -> Finding | None:
    """Checks that the caption is English, by its script and its function words."""
    letters = [char for char in text.line if char.isalpha()]
    foreign = sum(char > _LAST_LATIN for char in letters)
    if letters and round(foreign / len(letters), 4) > _MOST_FOREIGN_LETTERS:
        return "It is not written in the Latin script.", 0
    words = words_of(text.body)
    counts = Counter(words)
    scores = {
        name: sum(counts[word] for word in function_words)
        for name, function_words in _FUNCTION_WORDS.items()
    }
    best = max(scores, key=lambda name: scores[name])  # English comes first and wins ties
    if best != "English":
        return f"It reads like {best}; write English.", 0
    if len(words) > _MOST_BARE_WORDS and not scores["English"]:
        return "It is a list of words; write an English sentence.", 0
    return None


def repetition(text: CaptionText) -> Finding | None:
    """Checks that the caption does not repeat itself."""
    words = words_of(text.body)
    loop = _repeated_phrase(words)
    if not loop:
        grams = Counter(tuple(words[at : at + _GRAM]) for at in range(len(words) - _GRAM + 1))
        frequent = (gram for gram, count in grams.items() if count > text.layout.panels)
        loop = " ".join(next(frequent, ()))
    if not loop:
        parts = {" ".join(words_of(part)) for part in text.caption.parts}
        loop = parts.pop() if len(parts) == 1 else ""
    return (f'"{loop}" is repeated.', 0) if loop else None


def _repeated_phrase(words: list[str]) -> str:
    """Returns a phrase that repeats consecutively too often, or an empty string."""
    for size in range(1, _LONGEST_PHRASE + 1):
        times = _WORD_RUN if size == 1 else _PHRASE_RUN
        for start in range(len(words) - size * times + 1):
            phrase = words[start : start + size]
            if words[start : start + size * times] == phrase * times:
                return " ".join(phrase)
    return ""


MEANING_RULES: Final[tuple[Rule, ...]] = (gibberish, language, repetition, summary_empty)
