"""The share card of a model: an image with its name, facts and map, in the size of link previews."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import NeedsExtra
from m2v_core.exploration.topics import CLUSTER_COLORS, Topics

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

SIZE = (1200, 630)  # pixels; the size recommended for og:image

_BACKGROUND, _TEXT, _MUTED, _ACCENT = "#0e1312", "#edf1ef", "#94a19c", "#42b3a4"
Box = tuple[float, float, float, float]  # left, top, right, bottom
_MARGIN = 56
_NAME_WIDTH, _FACT_WIDTH = 600, 460  # pixels; longer text is truncated
_MAP_LEFT = 460  # the map covers the rest of the card, behind the text
_OUTLIERS = 0.005  # share of the points beyond each edge of the map
_MAX_LABELS = 9
_BRIGHTNESS = 42.0  # a point's brightness is this divided by the square root of the number of points, at most 1
# Fallback fonts for characters that Pillow's default font lacks; the first one that has all of them is used.
_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "NotoSansCJK-Regular.ttc", "Arial Unicode.ttf", "arial.ttf")
_MISSING = "\uffff"  # not a character, so fonts draw their missing-glyph symbol


def draw_share_card(
    name: str,
    teacher: str,
    facts: Sequence[tuple[str, str]],
    points: NDArray[np.float32],
    topics: Topics,
) -> bytes:
    """Draw the share card of a model.

    Args:
        name: Name of the model.
        teacher: Name of its teacher; empty if unknown.
        facts: Up to four pairs of a value and its label, such as ("12.3 MB", "on disk").
        points: Map of the words, (n_words, 2) float32.
        topics: Their topics.

    Returns:
        A PNG of `SIZE`.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    with NeedsExtra("Pillow", "app"):
        from PIL import Image, ImageDraw

    card = Image.new("RGB", SIZE, _BACKGROUND)
    places = _to_pixels(points)
    card.paste(Image.fromarray(_render_points(places, topics.clusters)))
    _shade_left(card)
    pen = ImageDraw.Draw(card)
    size = next((size for size in range(64, 33, -2) if _font(name, size).getlength(name) <= _NAME_WIDTH), 34)
    lines: list[tuple[float, str, int, str, float]] = [(_MARGIN, name, size, _TEXT, _NAME_WIDTH)]
    if teacher:
        lines.append((_MARGIN + size * 1.1 + 14, f"from {teacher}", 24, _MUTED, _NAME_WIDTH))
    y = SIZE[1] - _MARGIN - 62 - 84 * len(facts)
    for number, meaning in facts:
        lines += [(y, number, 38, _TEXT, _FACT_WIDTH), (y + 43, meaning, 21, _MUTED, _FACT_WIDTH)]
        y += 84
    lines.append((SIZE[1] - _MARGIN - 22, "Made with M2V Studio", 22, _ACCENT, _FACT_WIDTH))
    taken = [_write(pen, *line) for line in lines]
    _draw_topics(pen, places, topics, taken)
    made = io.BytesIO()
    card.save(made, "PNG")
    return made.getvalue()


def _write(pen: ImageDraw, y: float, text: str, size: int, color: str, width: float) -> Box:
    """Write a line at the left margin, truncated to `width` pixels, and return its box."""
    shown = _truncate(text, size, width)
    pen.text((_MARGIN, y), shown, color, _font(shown, size))
    return _MARGIN, y, _MARGIN + _font(shown, size).getlength(shown) + 12, y + 1.3 * size


def _to_pixels(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """Pixel coordinates of the points on the card, (n_points, 2) float32; both axes have the same scale."""
    if not len(points):
        return np.zeros((0, 2), dtype=np.float32)
    low, high = np.quantile(points, [_OUTLIERS, 1 - _OUTLIERS], axis=0)
    width, height = SIZE[0] - _MAP_LEFT - 30, SIZE[1] - 60
    scale = min(width / max(high[0] - low[0], 1e-9), height / max(high[1] - low[1], 1e-9))
    center = np.array([_MAP_LEFT + width / 2, SIZE[1] / 2])
    flipped = (points - (low + high) / 2) * np.array([scale, -scale])  # y increases downward in an image
    return np.asarray(center + flipped, dtype=np.float32)


def _render_points(places: NDArray[np.float32], clusters: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Render the points as soft dots, brighter where they overlap: (height, width, 3) uint8."""
    width, height = SIZE
    light = np.zeros((height, width, 3), dtype=np.float32)
    palette = np.array([[int(color[at : at + 2], 16) for at in (1, 3, 5)] for color in CLUSTER_COLORS], np.float32)
    colors = palette[clusters % len(palette)]
    x, y = places[:, 0], places[:, 1]
    left, top = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    brightness = min(1.0, _BRIGHTNESS / max(len(places), 1) ** 0.5)
    for row in range(-1, 3):
        for column in range(-1, 3):
            # An antialiased disc with a radius of 1.6 pixels.
            distance = np.hypot(left + column - x, top + row - y)
            weight = np.clip(2.1 - distance, 0, 1) * brightness
            inside = (weight > 0) & (left + column >= 0) & (left + column < width) & (top + row >= 0)
            inside &= top + row < height
            np.add.at(light, (top[inside] + row, left[inside] + column), weight[inside, None] * colors[inside])
    background = np.array([int(_BACKGROUND[at : at + 2], 16) for at in (1, 3, 5)], np.float32)
    # Saturate gradually, so that dense areas keep their color.
    peak = light.max(axis=2, keepdims=True)
    light *= np.where(peak > 0, 225 * (1 - np.exp(-peak / 225)) / np.maximum(peak, 1e-9), 0)
    return np.asarray(np.clip(background + light, 0, 255), dtype=np.uint8)


def _draw_topics(pen: ImageDraw, places: NDArray[np.float32], topics: Topics, taken: list[Box]) -> None:
    """Draw names of large, cohesive topics at the median of their words, without overlaps; add the boxes to `taken`."""
    n_free = _MAX_LABELS
    sizes = np.bincount(topics.labels, minlength=len(topics.names))
    for topic in np.argsort(-topics.cohesion * np.sqrt(sizes), kind="stable"):
        text = topics.names[topic]
        font = _font(text, 20)
        if not sizes[topic]:
            continue
        x, y = np.median(places[topics.labels == topic], axis=0)
        left, top, right, bottom = pen.textbbox((float(x), float(y)), text, font, anchor="mm")
        box = (left - 8, top - 8, right + 8, bottom + 8)
        is_inside = box[0] > _MAP_LEFT + 60 and box[2] < SIZE[0] and box[1] > 0 and box[3] < SIZE[1]
        if not is_inside or any(_overlap(box, other) for other in taken):
            continue
        pen.text((float(x), float(y)), text, _TEXT, font, anchor="mm", stroke_width=3, stroke_fill=_BACKGROUND)
        taken.append(box)
        n_free -= 1
        if not n_free:
            return


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _shade_left(card: Image) -> None:
    """Darken the part of the map that is behind the text."""
    from PIL import Image

    shade = np.clip((_MAP_LEFT + 190 - np.arange(SIZE[0])) / 190, 0, 1) * 255
    mask = Image.fromarray(np.tile(shade.astype(np.uint8), (SIZE[1], 1)))
    card.paste(Image.new("RGB", SIZE, _BACKGROUND), mask=mask)


def _truncate(text: str, size: int, width: float) -> str:
    """The text, truncated with "…" if it is wider than `width` pixels."""
    font = _font(text, size)
    if font.getlength(text) <= width:
        return text
    end = next(end for end in range(len(text), -1, -1) if font.getlength(text[:end] + "…") <= width)
    return text[:end].rstrip() + "…"


def _font(text: str, size: int) -> FreeTypeFont:
    """The first font that has all characters of the text; Pillow's default font if there is none."""
    return next((font for font in _fonts(size) if _has_all(font, text)), _fonts(size)[0])


@functools.lru_cache(maxsize=64)
def _fonts(size: int) -> list[FreeTypeFont]:
    from PIL import ImageFont

    found = [ImageFont.load_default(size)]
    for name in _FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:  # not installed
            continue
    return found  # type: ignore[return-value]  # load_default returns a bitmap font only without FreeType


def _has_all(font: FreeTypeFont, text: str) -> bool:
    missing = bytes(font.getmask(_MISSING))
    return all(character.isspace() or bytes(font.getmask(character)) != missing for character in set(text))
