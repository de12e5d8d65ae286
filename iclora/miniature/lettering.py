"""Block letters, and the title, credits and logo of a film.

Fonts differ between machines, so each letter is given as seven rows of five bits.
"""

from __future__ import annotations

from typing import Final

from PIL import Image, ImageDraw

from iclora.miniature.pen import Rgb
from iclora.miniature.script import FilmScript

_ROWS, _COLUMNS = 7, 5
_DOTS: Final[dict[str, tuple[int, ...]]] = {
    letter: tuple(int(row, 16) for row in rows.split())
    for letter, rows in {
        "A": "0E 11 11 1F 11 11 11",
        "B": "1E 11 11 1E 11 11 1E",
        "C": "0E 11 10 10 10 11 0E",
        "D": "1E 11 11 11 11 11 1E",
        "E": "1F 10 10 1E 10 10 1F",
        "F": "1F 10 10 1E 10 10 10",
        "G": "0E 11 10 17 11 11 0F",
        "H": "11 11 11 1F 11 11 11",
        "I": "0E 04 04 04 04 04 0E",
        "J": "07 02 02 02 02 12 0C",
        "K": "11 12 14 18 14 12 11",
        "L": "10 10 10 10 10 10 1F",
        "M": "11 1B 15 15 11 11 11",
        "N": "11 19 15 13 11 11 11",
        "O": "0E 11 11 11 11 11 0E",
        "P": "1E 11 11 1E 10 10 10",
        "Q": "0E 11 11 11 15 12 0D",
        "R": "1E 11 11 1E 14 12 11",
        "S": "0F 10 10 0E 01 01 1E",
        "T": "1F 04 04 04 04 04 04",
        "U": "11 11 11 11 11 11 0E",
        "V": "11 11 11 11 11 0A 04",
        "W": "11 11 11 15 15 1B 11",
        "X": "11 11 0A 04 0A 11 11",
        "Y": "11 11 0A 04 04 04 04",
        "Z": "1F 01 02 04 08 10 1F",
    }.items()
}

_CURTAIN: Rgb = (150, 28, 46)
_FOLD: Rgb = (120, 18, 38)
_CREAM: Rgb = (255, 238, 200)
_GOLD: Rgb = (250, 190, 50)


def write(
    canvas: ImageDraw.ImageDraw, text: str, at: tuple[int, int], dot: int, colour: Rgb
) -> None:
    """Writes one line of capitals, centered on a column.

    Args:
        canvas: Target.
        text: Capitals A to Z and spaces.
        at: Middle column and top row in pixels.
        dot: Side of a dot in pixels.
        colour: Color of the letters.
    """
    middle, top = at
    left = middle - (len(text) * (_COLUMNS + 1) - 1) * dot // 2
    for number, letter in enumerate(text):
        x = left + number * (_COLUMNS + 1) * dot
        for row, bits in enumerate(_DOTS.get(letter, ())):
            for column in range(_COLUMNS):
                if bits >> (_COLUMNS - 1 - column) & 1:
                    x0, y0 = x + column * dot, top + row * dot
                    canvas.rectangle((x0, y0, x0 + dot - 1, y0 + dot - 1), fill=colour)


def title_card(film: FilmScript, width: int, height: int) -> Image.Image:
    """Draws the first picture of a film: its title on a curtain."""
    card = Image.new("RGB", (width, height), _CURTAIN)
    canvas = ImageDraw.Draw(card)
    for x in range(0, width, 24):
        canvas.rectangle((x, 0, x + 9, height), fill=_FOLD)
    canvas.rectangle((32, height // 2 - 46, width - 33, height // 2 + 45), fill=_GOLD)
    canvas.rectangle((36, height // 2 - 42, width - 37, height // 2 + 41), fill=(70, 20, 50))
    for row, word in enumerate(film.title.split()):
        dot = 2 if row == 0 else 3
        write(canvas, word, (width // 2, height // 2 - 34 + row * 24), dot, _CREAM)
    return card


def credits_card(film: FilmScript, width: int, height: int) -> Image.Image:
    """Draws the last picture of a film: its cast."""
    card = Image.new("RGB", (width, height), (14, 12, 20))
    canvas = ImageDraw.Draw(card)
    top = height // 2 - 52
    write(canvas, "THE END", (width // 2, top), 3, _GOLD)
    for row, member in enumerate(film.cast):
        write(canvas, member.name.upper(), (width // 2, top + 40 + row * 24), 2, _CREAM)
    return card


def draw_logo(picture: Image.Image, box: tuple[int, int, int, int]) -> None:
    """Draws a broadcaster's logo into a box of the picture."""
    canvas = ImageDraw.Draw(picture)
    x0, y0, x1, y1 = box
    canvas.rectangle((x0, y0, x1 - 1, y1 - 1), fill=(250, 250, 250))
    canvas.rectangle((x0 + 1, y0 + 1, x1 - 2, y1 - 2), fill=(208, 24, 84))
    write(canvas, "MINI", ((x0 + x1) // 2, y0 + (y1 - y0 - _ROWS) // 2), 1, (255, 255, 255))
