"""Data to plotly figures: pure functions, without colours for text and lines, which follow the page's theme."""

from pages.figures.encoders import frontier_figure, quality_bubbles, speed_bars, speed_bubbles
from pages.figures.style import plain_name
from pages.figures.words import CLUSTER_COLORS, PointColors, map_figure

__all__ = [
    "CLUSTER_COLORS",
    "PointColors",
    "frontier_figure",
    "map_figure",
    "plain_name",
    "quality_bubbles",
    "speed_bars",
    "speed_bubbles",
]
