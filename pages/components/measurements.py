"""HTML views of speed comparisons."""

from __future__ import annotations

from m2v_core.evaluation import evidence
from m2v_core.evaluation.evidence import NOT_ENOUGH_DATA, NOT_MEASURED
from m2v_core.evaluation.speed import EncoderSpeed, SpeedComparison, rate_text
from pages.components import format_bytes, is_space, notice
from pages.figures import plain_name
from pages.html import Markup, render

_HEADINGS = (
    "Encoder",
    "Sentences/s",
    "Slowest to fastest round",
    "Compared with teacher",
    "Fidelity",
    "On disk",
    "Runs on",
)


def numbers_html(comparison: SpeedComparison) -> Markup:
    """Show a comparison as a headline and a table."""
    by_speed = sorted(comparison.encoders, key=lambda speed: -speed.sentences_per_second)
    rows = [(_name(speed), _cells(speed, comparison)) for speed in by_speed]
    table = render("table.html", headings=_HEADINGS, rows=rows, label="Measured speeds", marked=(), part=None)
    shown = render("numbers.html", headline=_headline(comparison), body=table, sentences=(), css=" m2v-card")
    return busy_html(comparison) + shown


def busy_html(comparison: SpeedComparison) -> Markup:
    """Warn that other programs slowed down a measurement; empty if they did not, or if that is unknown."""
    if not comparison.is_busy:
        return Markup()
    ratio = "; the ratio is less affected" if comparison.teacher is not None else ""
    again = "Measure again later." if is_space() else "Close other programs and measure again."
    return notice(
        "info",
        f"This machine was busy during the measurement, so the rates are too low{ratio}.",
        [f"Other programs used {comparison.other_load:.0%} of the processors. {again}"],
    )


def _headline(comparison: SpeedComparison) -> str:
    teacher, best = comparison.teacher, _fastest_model(comparison)
    if best is None:
        return "Measured speeds"
    name = best.facts.name
    times = comparison.times_the_teacher(best)
    if teacher is None or times is None:
        return f"{name} encodes {rate_text(best.sentences_per_second)} sentences per second"
    how = ", whose speed is extrapolated" if teacher.is_extrapolated else ""
    return f"{name} is {times_text(*times)} as fast as {_name(teacher)}{how}"


def speed_facts(comparison: SpeedComparison) -> list[tuple[str, str]]:
    """Return the speed and fidelity of the fastest model, as names and values."""
    teacher, best = comparison.teacher, _fastest_model(comparison)
    if best is None:
        return []
    facts = [("Sentences/s", rate_text(best.sentences_per_second))]
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
    """Format a speed ratio: "12 times", "1.8 times", "174 to 3,361 times"."""
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
    """Describe the measurement in a few sentences."""
    return render("speed_conditions.html", comparison=comparison, evidence=evidence)
