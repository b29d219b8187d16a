"""Rows of results, as text and as a Markdown table."""

import statistics
from dataclasses import dataclass, field

from encoding.encoders import OURS, PEER

_FACTORS = {"s": 1.0, "µs": 1e6, "MiB": 2.0**-20}


def _format(value: float) -> str:
    """Return a number with three significant digits, without an exponent."""
    return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@dataclass
class Row:
    """One measurement: a title, a unit, and the value of each round in seconds or bytes, by encoder."""

    title: str
    unit: str
    rounds: dict[str, list[float]]
    medians: dict[str, float] = field(init=False)

    def __post_init__(self) -> None:
        self.medians = {encoder: statistics.median(values) for encoder, values in self.rounds.items()}

    def ratio(self, encoder: str) -> float | None:
        """Return the encoder's median divided by ours, or None if the encoder was not measured."""
        return self.medians[encoder] / self.medians[OURS] if encoder in self.medians else None

    def text(self) -> str:
        """Return the title, then a line for each encoder with its median, fastest and slowest round."""
        lines = [self.title]
        factor = _FACTORS[self.unit]
        for encoder, median in self.medians.items():
            values = [value * factor for value in self.rounds[encoder]]
            spread = f"({_format(min(values))} to {_format(max(values))})"
            faster = f"{self.medians[PEER] / median:7.2f} x model2vec"
            lines.append(f"  {encoder:<22} {_format(median * factor):>9} {self.unit:<3} {spread:<20} {faster}")
        return "\n".join(lines)

    def record(self) -> dict[str, object]:
        """Return the row for the JSON file."""
        return {
            "title": self.title,
            "unit": self.unit,
            "rounds": self.rounds,
            "medians": self.medians,
            "model2vec_over_ours": self.ratio(PEER),
            "laghu_over_ours": self.ratio("laghu"),
        }


def markdown(rows: list[Row], encoders: list[str]) -> str:
    """Return a table with a column for each encoder, and the ratios of model2vec and laghu to ours."""
    header = ["", *encoders, "model2vec / ours", "laghu / ours"]
    lines = ["| " + " | ".join(header) + " |", "|---" + "|---:" * (len(header) - 1) + "|"]
    for row in rows:
        cells = [row.title]
        for encoder in encoders:
            median = row.medians.get(encoder)
            cells.append("" if median is None else f"{_format(median * _FACTORS[row.unit])} {row.unit}")
        for peer in (PEER, "laghu"):
            ratio = row.ratio(peer)
            cells.append("" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
