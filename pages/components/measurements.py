"""What a speed measurement found, as HTML."""

from __future__ import annotations

from m2v_core.evaluation import evidence
from m2v_core.evaluation.evidence import NOT_ENOUGH_DATA, NOT_MEASURED
from m2v_core.evaluation.speed import EncoderSpeed, SpeedComparison, rate_text
from pages.components import format_bytes
from pages.figures import plain_name
from pages.html import Markup, render

_HEADINGS = (
    "Encoder",
    "Sentences a second",
    "Slowest to fastest round",
    "Against teacher",
    "Fidelity",
    "On disk",
    "Runs on",
)


def numbers_html(comparison: SpeedComparison) -> Markup:
    """The finding, and all that was measured, as a sentence and a table."""
    by_speed = sorted(comparison.encoders, key=lambda speed: -speed.sentences_per_second)
    rows = [(_name(speed), _cells(speed, comparison)) for speed in by_speed]
    table = render("table.html", headings=_HEADINGS, rows=rows, label="Measured speeds", marked=(), part=None)
    return render("numbers.html", headline=_headline(comparison), body=table, sentences=(), css=" m2v-card")


def _headline(comparison: SpeedComparison) -> str:
    teacher, best = comparison.teacher, _fastest_model(comparison)
    if best is None:
        return "What was measured"
    name = best.facts.name
    times = comparison.times_the_teacher(best)
    if teacher is None or times is None:
        return f"{name} reads {rate_text(best.sentences_per_second)} sentences a second"
    how = ", whose speed is extrapolated" if teacher.is_extrapolated else ""
    return f"{name} reads {times_text(*times)} as fast as {_name(teacher)}{how}"


def speed_facts(comparison: SpeedComparison) -> list[tuple[str, str]]:
    """What matters most, as names and values: how fast the fastest model is, and how faithful."""
    teacher, best = comparison.teacher, _fastest_model(comparison)
    if best is None:
        return []
    facts = [("Sentences a second", rate_text(best.sentences_per_second))]
    if teacher is not None:
        how = ", extrapolated" if teacher.is_extrapolated else ""
        times = comparison.times_the_teacher(best)
        ratio = NOT_ENOUGH_DATA if times is None else times_text(*times).removesuffix(" times")
        facts.append((f"Times as fast as the teacher{how}", ratio))
        facts.append(("Fidelity", NOT_MEASURED if best.fidelity is None else f"{best.fidelity:.3f}"))
    return facts


def _fastest_model(comparison: SpeedComparison) -> EncoderSpeed | None:
    static = [speed for speed in comparison.encoders if speed.facts.role == "static"]
    return max(static, key=lambda speed: speed.sentences_per_second, default=None)


def _name(speed: EncoderSpeed) -> str:
    return plain_name(speed.facts.name, speed.facts.role)


def times_text(least: float, most: float) -> str:
    """How many times as fast, as people read it: "12 times", "1.8 times", "174 to 3,361 times"."""
    shown = [f"{ratio:,.0f}" if ratio >= 10 else f"{ratio:.1f}" for ratio in (least, most)]
    return f"{' to '.join(dict.fromkeys(shown))} times"


def _cells(speed: EncoderSpeed, comparison: SpeedComparison) -> list[str]:
    facts, times = speed.facts, comparison.times_the_teacher(speed)
    mark = Markup(' <span class="m2v-tag">extrapolated</span>') if speed.is_extrapolated else ""
    return [
        rate_text(speed.sentences_per_second) + mark,
        f"{rate_text(speed.slowest)} to {rate_text(speed.fastest)}",
        "-" if times is None else "1" if facts.role == "teacher" else times_text(*times),
        "-" if speed.fidelity is None else f"{speed.fidelity:.3f}",
        "-" if facts.size_bytes is None else format_bytes(facts.size_bytes),
        f"{facts.device}, {facts.n_threads} thread{'' if facts.n_threads == 1 else 's'}",
    ]


def conditions_html(comparison: SpeedComparison) -> Markup:
    """How it was measured, in a few sentences."""
    return render("speed_conditions.html", comparison=comparison, evidence=evidence)
