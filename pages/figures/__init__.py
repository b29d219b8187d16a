"""Figures from data: pure functions, without colors for text and lines, which follow the page's theme."""

from pages.figures.encoders import frontier_figure, quality_bubbles, speed_bars, speed_bubbles
from pages.figures.style import plain_name
from pages.figures.words import (
    SCALE_COLORS,
    PointColors,
    colors_data,
    points_data,
    topics_data,
    words_data,
)

__all__ = [
    "SCALE_COLORS",
    "PointColors",
    "colors_data",
    "frontier_figure",
    "plain_name",
    "points_data",
    "quality_bubbles",
    "speed_bars",
    "speed_bubbles",
    "topics_data",
    "words_data",
]
