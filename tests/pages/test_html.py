"""Text of users and models is text in every page: no tag or attribute comes of it, whatever it holds."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from m2v_core.distillation.entry_pieces import EntryPieces
from m2v_core.distillation.preflight import TeacherFacts
from m2v_core.distillation.teacher.modules import SentenceModules
from m2v_core.distillation.vocabulary import CleanedVocabulary
from m2v_core.errors import HubError, InputError
from m2v_core.evaluation.encoders import EncoderFacts
from m2v_core.evaluation.report import LeaderboardRow
from m2v_core.evaluation.run import Evaluation, TaskScore
from m2v_core.evaluation.speed import EncoderSpeed, Machine, SpeedComparison
from m2v_core.exploration.differences import ChangedWord, NeighborChanges
from m2v_core.exploration.explanation import Explanation, Span
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.hub.account import Account
from m2v_core.studio.jobs import Stage
from m2v_core.studio.library import ModelRecord, Refusal
from pages import components, explore, figures, library
from pages.components import (
    account,
    column_picker,
    evaluation_view,
    findings,
    job_view,
    map_look,
    measurements,
    model_difference,
    model_facts,
    model_picker,
    model_table,
    own_words,
    preflight_card,
    result_card,
    teacher_side,
    waiting,
    word_map,
)
from pages.components.account import Visitor
from pages.figures import encoders, style
from pages.glossary import GLOSSARY
from pages.html import render
from tests.pages.conftest import done_job, make_job
from tests.pages.test_evaluate import frontier_rows
from tests.static_models import static_model

ROOT = Path(__file__).parents[2]


def _visitor(text: str, **changes: Any) -> Visitor:
    return Visitor("hf_x", Account(text, (text, "b"), **({"may_write": True} | changes)))


def _facts(text: str) -> TeacherFacts:
    modules = SentenceModules((), (text,), 384, 384, 384)
    numbers = (90, 5_000, 1_000, 384, 512)
    return TeacherFacts(text, "public", "c" * 40, text, *numbers, "WordPiece", 30_000, (), modules, {text: text})


def _record(text: str, **changes: Any) -> ModelRecord:
    fields: dict[str, Any] = {"teacher": text, "recipe": {"recipe": text, "device": text}, "dim": 8, "n_tokens": 100}
    return ModelRecord("a" * 32, text, **(fields | changes))


def _found(text: str) -> list[Neighbor]:
    return [Neighbor(text, 0.5, 0), Neighbor("sea", -0.25, 1200)]


def _speeds(text: str) -> SpeedComparison:
    static = EncoderSpeed(EncoderFacts(text, "static", 256, text, 2, 15_700_000), 300, (0.02, 0.03, 0.06), False, 0.8)
    teacher = EncoderSpeed(EncoderFacts("t" + text, "teacher", 384, "cpu", 1, None), 24, (2.0, 3.0, 40.0), True)
    machine = Machine(text, 2, "Linux x86_64", "3.11.7")
    return SpeedComparison((static, teacher), 300, 3, 15.0, 101.0, text, 72, machine)


def _evaluation(text: str, n_items: int = 500) -> Evaluation:
    encoders = (EncoderFacts(text, "static", 8, "cpu", 1, 9), EncoderFacts("t" + text, "teacher", 8, "cpu", 1, 9))
    scores = tuple(
        TaskScore(one.name, task, "STS", "spearman", 50.0, 40.0, 60.0, n_items, 1.0, (text,))
        for task in (text, "two")
        for one in encoders
    )
    return Evaluation(encoders, scores)


def _fidelity(text: str, warning: str = "") -> dict[str, Any]:
    estimate = {"value": 0.9, "low": 0.8, "high": 0.95}
    one = {"correlation": estimate, "overlap": estimate, "n_neighbours": 10, "n_pairs": 100, "n_texts": 40}
    return {text: one | {"warning": warning, "verdict": f"{text} keeps it"}, "b": one | {"warning": ""}}


def _board(text: str) -> list[LeaderboardRow]:
    return [
        LeaderboardRow(text, "measured", {"STS": 50.0}, 50.0, 2, 10, None),
        LeaderboardRow("m/potion", "published", {"STS": 60.0}, None, None, 10, f"https://huggingface.co/{text}/x y"),
    ]


def _published(text: str) -> dict[str, Any]:
    return {
        **{"repo_id": f"a/{text}", "url": f"https://h/{text}", "pr_url": None, "verified": True, "revision": text},
        **{"readers": [text, "model2vec"], "n_bytes": 5, "commit": "abcdef0123", "private": True},
    }


MEASURED = {
    **{"fidelity": 0.9, "sentences_per_second": 1234.0, "times_the_teacher": [3.0, 4.0]},
    "is_teacher_extrapolated": True,
}
STAGES = (Stage("load", 1, 1, 2.0, True), Stage("encode", 10, 100, 4.0, False))

# Each makes HTML with `text` wherever a user, a model or the Hub may have written it.
CASES: dict[str, Callable[[str], str]] = {
    "notice": lambda text: components.notice("info", text, [text, text]),
    "error_notice": lambda text: components.error_notice(InputError(text), text),
    "question": column_picker.question,
    "neighbors_html": lambda text: components.neighbors_html(_found(text), text, {0}),
    "words_html": lambda text: findings.words_html(_found(text), text),
    "documents_html": lambda text: findings.documents_html(_found(text), text, {1200}, [text, text]),
    "comparison_html": lambda text: findings.comparison_html(
        findings.words_html, _found(text), _found(text), f"a/{text}", text
    ),
    "pending_comparison_html": lambda text: findings.pending_comparison_html(
        findings.words_html(_found(text), text), text, waiting.waiting_html(text, 2.0)
    ),
    "explanation_html": lambda text: findings.explanation_html(
        Explanation(
            0.5,
            (Span(text, "known", 0.5), Span(text, "unknown")),
            (Span(text, "known", -0.1), Span(text, "between"), Span(text * 30, "unread")),
        )
    ),
    "account_html": lambda text: account.account_html(_visitor(text), text),
    "account_html, reader": lambda text: account.account_html(_visitor(text, may_write=False), text),
    "account_html, nobody": lambda text: account.account_html(Visitor(), text),
    "account_html, problem": lambda text: account.account_html(Visitor("t", None, HubError(text)), text),
    "fidelity_html": lambda text: evaluation_view.fidelity_html(_fidelity(text, text), text, text),
    "scores_html": lambda text: evaluation_view.scores_html(_evaluation(text), text),
    "scores_html, few": lambda text: evaluation_view.scores_html(_evaluation(text, 12), text),
    "leaderboard_html": lambda text: evaluation_view.leaderboard_html(_board(text), _evaluation(text)),
    "frontier_html": lambda text: evaluation_view.frontier_html(frontier_rows(), text, text),
    "frontier_html, few": lambda text: evaluation_view.frontier_html(frontier_rows(), text, "float32", text),
    "conditions_html of an evaluation": lambda text: evaluation_view.conditions_html(
        {"date": text, "machine": {"processor": text, "n_cpus": 2, "system": text, "python": text}}, True
    ),
    "numbers_html": lambda text: measurements.numbers_html(_speeds(text)),
    "conditions_html": lambda text: measurements.conditions_html(_speeds(text)),
    "_found_html": word_map._found_html,
    "selection_html": lambda text: map_look.selection_html(
        ["word", "rank", "norm", "topic"], [[text, 1200, 0.5, text]] * 101
    ),
    "selection_html, shares": lambda text: map_look.selection_html(
        ["word", "rank", "norm", "shared neighbors"], [[text, 1200, 0.5, 0.25]]
    ),
    "legend_html": lambda text: map_look.legend_html(
        figures.PointColors("Cluster", np.zeros(1), are_groups=True), [text, "two"]
    ),
    "legend_html, scale": lambda text: map_look.legend_html(figures.PointColors(text, np.zeros(1)), []),
    "document_legend.html": lambda text: render(
        "document_legend.html", groups=[("#24978a", text, 3), ("#c98a1b", "two", 1)], n_shown=4, n_all=5
    ),
    "map_word.html": lambda text: render(
        "map_word.html",
        word=text,
        rank=3,
        norm=0.5,
        topic=text,
        pieces=[text, text],
        lists=[(text, [(Neighbor(text, 0.5, 0), 0), (Neighbor(text, 0.4, 1), None)])],
    ),
    "failed_html": lambda text: teacher_side.failed_html(make_job("failed", id=text, message=text), text),
    "job_html, running": lambda text: job_view.job_html(
        make_job("running", title=text, stages=(*STAGES, Stage(text, 0, 0, 1.0, False))), "distill"
    ),
    "job_html, failed": lambda text: job_view.job_html(
        make_job("failed", id=text, title=text, message=text, stages=STAGES), "distill"
    ),
    "job_html, queued": lambda text: job_view.job_html(make_job("queued", title=text, queue_position=3), "distill"),
    "job_html, unpublished": lambda text: job_view.job_html(
        done_job(id=text, title=text, message=text, parameters={"publish": {"repo_id": text}}), "one click"
    ),
    "facts_html": lambda text: model_facts.facts_html(_record(text)),
    "facts_html, Hub": lambda text: model_facts.facts_html(_record(text, source="hub", origin=text, recipe={})),
    "table_html": lambda text: model_table.table_html([_record(text), _record("other")], []),
    "facts of two models": lambda text: model_difference._facts_html([_record(text), _record(text, source="zip")], []),
    "words of two models": lambda text: model_difference._words_html(
        NeighborChanges(60, 50, 10, 0.5, [ChangedWord(text, 1, [text, "sea"], [text, "fox"])]), [text, text]
    ),
    "links_html": lambda text: model_facts.links_html(text),
    "snippet_html": lambda text: model_facts.snippet_html(_record(text), text),
    "result_html": lambda text: result_card.result_html(
        done_job(
            outcome=done_job().outcome
            | {"published": _published(text), "measured": MEASURED | {"hardware": text, "fidelity_on": text}}
        )
    ),
    "result_html, published": lambda text: result_card.result_html(
        make_job("done", kind="publish", outcome={"published": _published(text) | {"commit": text[:7]}})
    ),
    "published_html": lambda text: result_card.published_html(
        done_job(outcome={"published": _published(text) | {"revision": "main", "pr_url": f"https://h/{text}"}})
    ),
    "preflight": lambda text: str(
        preflight_card._card(
            components.rows_html(preflight_card._teacher_rows(_facts(text))) + components.notice("error", text, [text])
        )
    ),
    "_pieces_html": lambda text: preflight_card._pieces_html(
        EntryPieces(3, 3, 1, 1, 2.0, ((text, (text, "##b")),)), True, text
    ),
    "report_html": lambda text: own_words.report_html(CleanedVocabulary([text] * 13, []), text),
    "waiting_html": lambda text: waiting.waiting_html(text, 2.0, 4.0),
    "bar_html": lambda text: waiting.bar_html(text, text, 0.25),
    "refused_html": lambda text: model_picker.refused_html([Refusal("a", text, text, True)]),
    "search": lambda text: explore._found_html(
        findings.documents_html,
        SimpleNamespace(search=lambda query, k: [Neighbor(text, 0.5, 0)]),
        None,
        text,
        5,
        static_model("WordPiece"),
        [text],
    ),
    "page_head": lambda text: components.page_head(text, text).value,
    "hint": lambda text: components.hint(text).value,
    "_added": lambda text: library._added(_record(text)),
}
# What plotly shows as HTML.
LABELS: dict[str, Callable[[str], str]] = {
    "short_name": lambda text: style.short_name(text, "static"),
    "hover of a speed": lambda text: encoders.speed_hover(_speeds(text).encoders[0]),
    "frontier": lambda text: figures.frontier_figure(frontier_rows(), text).layout.annotations[0].text,
    "bubbles": lambda text: figures.speed_bubbles(_speeds(text)).data[0].customdata[0],
}


class _Reader(HTMLParser):
    """The tags with the names of their attributes, and all text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # A name may break after each stroke.
        if tag != "wbr":
            self.tags.append(" ".join([tag, *(name for name, _ in attrs)]))
        for name, value in attrs:
            assert not (name == "href" and re.match(r"\s*javascript", value or ""))
            self.texts.append(value or "")

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def handle_comment(self, data: str) -> None:
        self.tags.append("comment")

    def handle_decl(self, decl: str) -> None:
        self.tags.append("declaration")


def read(html: str) -> _Reader:
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader


EVIL = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "&lt;b&gt; &amp;",
    "<!-- a",
]
TEXTS = st.sampled_from(EVIL) | st.text("<>\"'&{}%;#=/! abx", min_size=1, max_size=12).map(lambda text: f"z{text}z")


@pytest.mark.parametrize("name", [*CASES, *LABELS])
@settings(max_examples=25, deadline=None)
@given(text=TEXTS)
def test_text_stays_text(name: str, text: str) -> None:
    make = {**CASES, **LABELS}[name]
    found = read(make(text))
    assert found.tags == read(make("word")).tags
    # Of a long name the middle is cut, of a path the last part is shown.
    shown = "".join(found.texts)
    assert text.rpartition("/")[2].strip("z \\")[:8].strip() in shown


def _makers() -> set[tuple[str, str]]:
    """File and name of each function that renders a template or returns HTML."""
    found = set()
    for path in (ROOT / "pages").rglob("*.py"):
        if path.name == "html.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                calls = {
                    part.func.id
                    for part in ast.walk(node)
                    if isinstance(part, ast.Call) and isinstance(part.func, ast.Name)
                }
                returns_html = node.returns is not None and ast.unparse(node.returns) == "Markup"
                if returns_html or calls & {"render", "escape"}:
                    found.add((str(path), node.name))
    return found


# They need a model or a page, and pass on what the others make of text, or there is no text of others in them.
ELSEWHERE = {
    *{"_notes_html", "word_html", "look_of", "build", "_map_component", "show_documents", "_messages", "preflight"},
    *{
        "search_words",
        "search_documents",
        "name_html",
        "write_board",
        "empty_html",
        "empty_library_html",
        "progress_html",
        "replace_preview",
    },
}


def test_every_function_that_makes_html_is_tried() -> None:
    tried: set[tuple[str, str]] = set()
    sys.setprofile(lambda frame, *_: tried.add((frame.f_code.co_filename, frame.f_code.co_name)))
    try:
        for make in (*CASES.values(), *LABELS.values()):
            make("word")
    finally:
        sys.setprofile(None)
    assert {name for place, name in _makers() if (place, name) not in tried} == ELSEWHERE


def test_a_term_is_explained_where_it_first_appears() -> None:
    head = components.page_head("Teachers", "A Teacher <of> shared rows; the teacher.").value
    terms = f'A <abbr title="{GLOSSARY["teacher"]}">Teacher</abbr> &lt;of&gt; '
    terms += f'<abbr title="{GLOSSARY["shared rows"]}">shared rows</abbr>; the teacher.'
    assert f"<h1>Teachers</h1><p>{terms}</p>" in head


def test_a_template_that_lacks_a_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("{{ absent }}")
    assert render("<b>{{ text }}</b>{{ html }}", text="<i>", html=render("<i></i>")) == "<b>&lt;i&gt;</b><i></i>"


def test_the_layout_of_a_template_adds_no_white_space_between_tags() -> None:
    assert render("<p>\n  one {{ 2 }}\n  three\n  <b>4</b>\n  {% if 5%}\n  five{% endif %}\n</p>\n") == (
        "<p>one 2 three<b>4</b>five</p>"
    )
