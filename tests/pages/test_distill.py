from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from secrets import token_hex
from types import SimpleNamespace
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio.context import LocalContext

from m2v_core.errors import InputError, VocabularyError
from m2v_core.exploration.neighbors import Neighbor
from m2v_core.studio.work.distilling import default_name
from pages import distill
from pages.api import _SETTINGS
from pages.components import BUNDLED_TEACHER, own_words, preflight_card
from pages.components.account import Visitor
from pages.components.distill_settings import DEFAULTS as FORM_DEFAULTS
from pages.components.distill_settings import (
    DEVICES,
    EFFORT_INFO,
    EFFORTS,
    POOLINGS,
    PRECISIONS,
    RECIPES,
    WEIGHTINGS,
    parse_clusters,
    parse_coefficient,
    parse_dims,
    parse_pattern,
)
from pages.components.model_name import Suggestion, propose, rule_html
from pages.components.own_words import clean_words, lint, lint_file, read_words, vocabulary_lines
from pages.components.preflight_card import teacher_facts
from pages.distill import build, restore, search, submit
from tests.hub.server import LoopbackHub, User
from tests.pages.conftest import JOB_ID, FakeStore, make_job

OWNER = "owner-owner-owner-owner-1"
WriteFile = Callable[[str, str], str]
DEFAULTS: dict[str, Any] = {
    "who": Visitor(),
    "teacher": "BAAI/bge-small-en-v1.5",
    "mode": "output",
    "source": "paste",
    "pasted": "",
    "upload": None,
    "column": None,
    "is_cleaned": False,
    "dims": "256",
    "weighting": "sif",
    "sif_coefficient": "0.0001",
    "pooling": "auto",
    "precision": "float16",
    "clusters": "",
    "remove_pattern": r"\[unused\d+\]",
    "prompt": "",
    "dictionary": "auto",
    "device": "auto",
    "recipe": "fast",
    "effort": None,
    "corpus": None,
}


@pytest.fixture(autouse=True)
def page(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No request is left to the tests that follow."""
    before = LocalContext.request.set(None)
    monkeypatch.setattr(distill, "_started", {})
    yield
    LocalContext.request.reset(before)


def reload() -> None:
    """Let what follows come from another open page than what was before, as after a refresh."""
    LocalContext.request.set(gr.Request(session_hash=token_hex(8)))


def test_the_defaults_are_those_of_distill(store: FakeStore) -> None:
    submit(OWNER, **DEFAULTS)
    spec, owner = store.submitted[0]
    assert owner == OWNER
    assert spec.title == "bge-small-en-256"
    assert spec.parameters == {
        "model_name": "BAAI/bge-small-en-v1.5",
        "pca_dims": 256,
        "pooling": "auto",
        "prompt_name": None,
        "dictionary": "auto",
        "recipe": "fast",
        "effort": None,
        "quantize_to": "float16",
        "token_remove_pattern": r"\[unused\d+\]",
        "vocabulary_quantization": None,
        "device": "auto",
        "apply_zipf": True,
        "weighting": "sif",
        "sif_coefficient": 1e-4,
        "name": "bge-small-en-256",
    }
    assert not spec.texts


def test_a_model_has_a_name_and_its_teachers_license(
    store: FakeStore, vocabulary_file: WriteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = SimpleNamespace(license="apache-2.0", access="public", teacher_dim=384)
    monkeypatch.setattr(distill, "teacher_facts", lambda name, token: facts)
    words = {
        "mode": "word",
        "source": "upload",
        "upload": vocabulary_file("Medical terms.txt", "aspirin\nheart attack"),
    }
    submit(OWNER, **DEFAULTS | {"name": "my-model"})
    submit(OWNER, **DEFAULTS | words | {"dims": "0.9"})
    first, second = (spec for spec, _ in store.submitted)
    assert (first.title, first.parameters["name"], first.parameters["license"]) == (
        "my-model",
        "my-model",
        "apache-2.0",
    )
    assert second.title == second.parameters["name"] == "bge-small-en-medical-terms"
    for bad in ("my model", "ada/model", "-x", "a--b", "x" * 97, "ünder"):
        assert "Use letters, digits, &#39;-&#39;" in rule_html(bad)
        with pytest.raises(InputError, match="can't be the name of a model. Use letters, digits"):
            submit(OWNER, **DEFAULTS | {"name": bad})
    assert rule_html("minilm-l6-256") == rule_html(" ") == "" and len(store.submitted) == 2


def test_what_is_typed_as_a_name_stays() -> None:
    proposed = Suggestion("a-256", ("a",))
    for name, suggested in (("", ""), ("", "a-128"), ("a-128", "a-128")):
        box, now_suggested = propose(name, proposed, Suggestion(suggested))
        assert (box.value, box.placeholder, now_suggested) == ("a-256", "a-256", proposed)
    box, now_suggested = propose("mine", proposed, Suggestion("a-128"))
    assert box.value is None and (box.placeholder, now_suggested) == ("a-256", proposed)


def test_a_name_that_was_suggested_for_other_settings_is_not_used(
    store: FakeStore, build_teacher_once: Callable[[str], Path]
) -> None:
    form = DEFAULTS | {"teacher": BUNDLED_TEACHER}
    names = ["source", "pasted", "upload", "column", "dims", "precision", "clusters", "remove_pattern", "recipe"]
    checked = {name: form[name] for name in ("teacher", "mode", *names, "prompt", "dictionary", "pooling")}
    checked |= {"language": "auto", "size": "", "effort": None, "corpus": None}
    suggested = distill.check(**checked)["proposed"]
    assert suggested.name == "minilm-l6-256"
    width = teacher_facts(str(build_teacher_once("wordpiece"))).teacher_dim
    for changes, expected in (
        ({}, "minilm-l6-256"),
        ({"teacher": str(build_teacher_once("wordpiece"))}, f"wordpiece-{width}"),
        ({"dims": "128"}, "minilm-l6-128"),
        ({"dims": "128", "name": "mine"}, "mine"),
    ):
        submit(OWNER, **form | {"name": suggested.name, "suggested": suggested} | changes)
        assert store.submitted[-1][0].parameters["name"] == expected


def test_the_name_says_how_wide_the_model_will_be(
    build_teacher_once: Callable[[str], Path], vocabulary_file: WriteFile
) -> None:
    teacher = str(build_teacher_once("wordpiece"))
    settings = {
        name: DEFAULTS[name] for name in ("source", "pasted", "column", "precision", "clusters", "remove_pattern")
    }
    settings |= {"teacher": teacher, "recipe": "fast", "prompt": "", "dictionary": "auto", "pooling": "auto"}
    settings |= {"effort": None, "corpus": None, "language": "auto", "size": ""}
    width = teacher_facts(teacher).teacher_dim
    file = vocabulary_file("few.txt", "sea\nriver")
    for changes, ending in (
        ({"mode": "output", "upload": file, "dims": "8"}, "-8"),
        ({"mode": "word", "source": "upload", "upload": file, "dims": "8"}, f"-few-{width}"),
        ({"mode": "output", "upload": None, "dims": "none"}, f"-{width}"),
    ):
        assert distill.check(**settings | changes)["proposed"].name == default_name(teacher) + ending


def test_each_effort_has_its_time_and_is_for_one_recipe(
    build_teacher_once: Callable[[str], Path], vocabulary_file: WriteFile
) -> None:
    settings = {"teacher": str(build_teacher_once("wordpiece")), "mode": "output", "source": "paste", "pasted": ""}
    settings |= {name: FORM_DEFAULTS[name] for name in ("dims", "precision", "clusters", "remove_pattern")}
    settings |= {
        "upload": None,
        "column": None,
        "language": "auto",
        "size": "",
        "prompt": "",
        "dictionary": "english",
        "pooling": "auto",
    }
    corpus = vocabulary_file("corpus.txt", "\n".join(f"sentence {number}" for number in range(5_001)))
    shown = distill.check(**settings, recipe="calibrated", effort="quick", corpus=corpus)
    assert [label.split(", about")[0] for label, _ in shown["effort"].choices] == ["Quick", "Balanced", "Best"]
    assert "5,001 distinct texts; 5,000 of them are used, evenly spaced" in shown["card"]
    assert "WordNet, 10,000 lines" in shown["card"]
    shown = distill.check(**settings, recipe="calibrated", effort="best", corpus=corpus)
    assert "5,001 texts" in shown["card"] and "evenly spaced" not in shown["card"]
    shown = distill.check(**settings, recipe="fast", effort="best", corpus=None)
    assert ", about" not in str(shown["effort"].choices) and "m2v-error" not in shown["card"]
    hidden, back = distill.show_effort("fast", "quick"), distill.show_effort("calibrated", None)
    assert not hidden["box"].visible and hidden["effort"].value is None
    assert back["box"].visible and back["effort"].value == "best"
    assert distill.show_effort("calibrated", "quick")["effort"].value == "quick"


def test_a_hidden_effort_does_not_stop_a_run(store: FakeStore) -> None:
    submit(OWNER, **DEFAULTS | {"recipe": "fast", "effort": "quick"})
    assert store.submitted[-1][0].parameters.get("effort") is None


@pytest.mark.parametrize(("mode", "use_subword"), [("subword", True), ("word", False)])
def test_words_go_along(store: FakeStore, mode: str, use_subword: bool) -> None:
    submit(OWNER, **DEFAULTS | {"mode": mode, "pasted": "new york\naspirin\n"})
    spec, _ = store.submitted[0]
    assert spec.parameters["use_subword"] is use_subword
    assert spec.texts == {"vocabulary": ["new york", "aspirin"]}


@pytest.mark.parametrize(
    ("weighting", "expected"),
    [
        ("zipf", {"apply_zipf": True, "weighting": "zipf"}),
        ("none", {"apply_zipf": False}),
    ],
)
def test_weighting(store: FakeStore, weighting: str, expected: dict[str, Any]) -> None:
    submit(OWNER, **DEFAULTS | {"weighting": weighting, "sif_coefficient": "ignored"})
    parameters = store.submitted[0][0].parameters
    assert {
        key: parameters[key] for key in parameters if key in ("apply_zipf", "weighting", "sif_coefficient")
    } == expected


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"teacher": " "}, "No teacher is selected"),
        ({"mode": "word"}, "no words yet. Paste some words"),
        ({"mode": "word", "source": "upload"}, "Upload a file"),
        ({"mode": "word", "pasted": "a\n\nb"}, "1 entry .* Click Clean"),
        ({"mode": "word", "pasted": "\n \n"}, "no words yet"),
        ({"dims": "many"}, "Dimensions is 'many'"),
        ({"sif_coefficient": "0"}, "SIF coefficient is '0'"),
        ({"clusters": "-3"}, "Shared rows is '-3'"),
        ({"remove_pattern": "(["}, "not a valid regular expression"),
    ],
)
def test_what_can_not_run_is_refused_before_the_queue(store: FakeStore, change: dict[str, Any], says: str) -> None:
    with pytest.raises(InputError, match=says):
        submit(OWNER, **DEFAULTS | change)
    assert not store.submitted


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("256", 256),
        (" 256 ", 256),
        ("256.0", 256),
        ("0.95", 0.95),
        ("auto", "auto"),
        ("none", None),
        ("", None),
        (64, 64),
    ],
)
def test_dims(text: str, value: object) -> None:
    assert parse_dims(text) == value


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "1e400", "wide"])
def test_dims_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="Dimensions is"):
        parse_dims(text)


def test_other_settings() -> None:
    assert parse_coefficient("1e-3") == 1e-3
    for text in ("nan", "inf", "-1", "small", ""):
        with pytest.raises(InputError):
            parse_coefficient(text)
    assert parse_clusters(" 4096 ") == 4096
    assert parse_clusters("") is None
    for text in ("0", "2.5", "²"):
        with pytest.raises(InputError):
            parse_clusters(text)
    assert parse_pattern("") is None
    assert parse_pattern(r"\d+") == r"\d+"


def test_pasted_words_are_judged_and_cleaned() -> None:
    pasted = "heart attack\naspirin\n\naspirin"
    _, report, button, is_cleaned = lint("paste", pasted, None, None)
    assert "2 entries valid, 2 invalid" in report
    assert "1 blank line (line 3): skipped." in report
    assert button.visible and button.value == "Clean: keep 2, skip 2"
    assert not is_cleaned
    text, report, button, is_cleaned = clean_words("paste", pasted, None, None)
    assert text == "heart attack\naspirin"
    assert "2 entries ready" in report and not button.visible and is_cleaned
    assert lint("paste", text, None, None)[2].visible is False


def test_nothing_pasted_says_nothing() -> None:
    _, report, button, _ = lint("paste", " \n", None, None)
    assert report == "" and not button.visible


def test_words_are_escaped_where_they_are_shown() -> None:
    assert "<b>" not in lint("paste", "<b>bold</b>\n<b>bold</b>", None, None)[1]


def test_an_uploaded_table(vocabulary_file: WriteFile) -> None:
    path = vocabulary_file("words.csv", "rank,word\n1,the\n2,\n3,of\n")
    column, report, button, _ = lint_file(path)
    assert [name for name, _ in column.choices] == ["rank", "word"]
    assert column.value == "word" and column.visible
    assert "1 blank line (line 3)" in report and button.visible
    with pytest.raises(VocabularyError, match="Click Clean"):
        vocabulary_lines("upload", "", path, "word", False)
    assert vocabulary_lines("upload", "", path, "word", True) == ["the", "of"]
    assert "1 skipped." in clean_words("upload", "", path, "word")[1]


def test_a_table_whose_column_only_a_person_knows(vocabulary_file: WriteFile) -> None:
    path = vocabulary_file("words.csv", "rang,Wort\n1,der\n2,die\n")
    column, report, button, _ = lint_file(path)
    assert column.value is None and "Choose the column" in report and not button.visible
    assert "2 entries ready" in lint("upload", "", path, "Wort")[1]
    with pytest.raises(VocabularyError, match="several columns"):
        vocabulary_lines("upload", "", path, None, False)


def test_an_uploaded_text_needs_no_column(vocabulary_file: WriteFile) -> None:
    path = vocabulary_file("words.txt", "the\nof\n")
    column, report, _, _ = lint_file(path)
    assert not column.visible and "2 entries ready" in report
    assert vocabulary_lines("upload", "", path, "left over from another file", False) == ["the", "of"]


def test_a_guessed_encoding_is_told(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes("café\nnaïve".encode("latin-1"))
    assert "was read as Windows-1252" in lint_file(str(path))[1]


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_bytes(b"PK\x03\x04")
    column, report, button, _ = lint_file(str(path))
    assert "This file can&#39;t be used" in report and "export the sheet as CSV" in report
    assert not column.visible and not button.visible


def test_a_file_taken_away_again() -> None:
    column, report, button, _ = lint_file(None)
    assert not column.visible and report == "" and not button.visible


def test_settings_come_back_with_the_job(store: FakeStore) -> None:
    changed = {
        "teacher": "a/b",
        "dims": "0.9",
        "weighting": "none",
        "pooling": "last",
        "precision": "int8",
        "clusters": "4096",
        "remove_pattern": "",
        "device": "cpu",
        "recipe": "calibrated",
    }
    job_id = submit(OWNER, **DEFAULTS | changed)
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[0][0].parameters))
    reload()
    shown = restore(OWNER, job_id, "", None)
    assert changed.items() <= shown.items() and "sif_coefficient" not in shown
    assert restore("somebody-else-entirely-1", job_id, "", None) == {}


def test_a_job_of_home_brings_the_defaults(store: FakeStore) -> None:
    store.add(OWNER, make_job(parameters={"model_name": "a/b", "recipe": "fast"}))
    shown = restore(OWNER, JOB_ID, "", None)
    names = ("dims", "weighting", "pooling", "precision", "clusters", "remove_pattern", "device", "recipe")
    assert {"teacher": "a/b", **{name: DEFAULTS[name] for name in names}}.items() <= shown.items()
    assert "sif_coefficient" not in shown


def test_settings_of_another_run_are_pointed_out(store: FakeStore) -> None:
    """They are folded away, and whoever comes from Home has not chosen them."""
    for parameters, is_other in (({"recipe": "fast"}, True), ({"recipe": "calibrated"}, False)):
        store.add(OWNER, make_job(parameters={"model_name": "a/b", **parameters}))
        shown = restore(OWNER, JOB_ID, "", None)
        advanced, back = shown["advanced"], shown["back"]
        assert ("your last run" in advanced.label) == is_other and back.visible == is_other


def test_the_defaults_are_what_the_form_begins_with() -> None:
    with gr.Blocks() as page:
        build()
    shown = {getattr(block, "label", None): getattr(block, "value", None) for block in page.blocks.values()}
    names = ("Dimensions", "Weighting", "SIF coefficient", "Pooling", "Precision", "Shared rows")
    assert tuple(
        shown[name] for name in (*names, "Tokens to drop", "Prompt", "Dictionary", "Device", "Recipe", "Effort")
    ) == tuple(FORM_DEFAULTS.values())


def test_a_file_without_a_sentence_is_refused(store: FakeStore, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text("{not json\n" * 20, encoding="utf-8")
    with pytest.raises(InputError, match="has no text"):
        submit(OWNER, **DEFAULTS | {"corpus": str(broken)})
    assert not store.submitted


def test_a_column_of_a_file_that_is_gone_is_forgotten(vocabulary_file: WriteFile) -> None:
    table = vocabulary_file("new.csv", "word,count\nheart,9\naspirin,8\n")
    cleaned = read_words("upload", None, table, "term")
    assert cleaned is not None and cleaned.words == ["heart", "aspirin"]


def test_sentences_go_along(store: FakeStore, tmp_path: Path) -> None:
    corpus = tmp_path / "sentences.jsonl"
    corpus.write_text('{"text": "one"}\n{"text": "two"}\n', encoding="utf-8")
    submit(OWNER, **DEFAULTS | {"corpus": str(corpus)})
    assert store.submitted[0][0].texts["corpus"] == ["one", "two"]
    with pytest.raises(InputError, match="does not use sentences"):
        submit(OWNER, **DEFAULTS | {"corpus": str(corpus), "recipe": "model2vec"})


def test_every_setting_returns_as_it_was_sent(store: FakeStore) -> None:
    job_id = submit(OWNER, **DEFAULTS | {"dims": "none", "sif_coefficient": "0.00005"})
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[0][0].parameters))
    reload()
    expected = {"dims": "none", "weighting": "sif", "sif_coefficient": "5e-05"}
    assert expected.items() <= restore(OWNER, job_id, "", None).items()


@pytest.mark.parametrize("mode", ["word", "subword"])
def test_words_come_back_with_the_job(store: FakeStore, mode: str) -> None:
    job_id = submit(OWNER, **DEFAULTS | {"mode": mode, "pasted": "heart attack\naspirin"})
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[0][0].parameters))
    reload()
    expected = {"mode": mode, "source": "paste", "pasted": "heart attack\naspirin"}
    assert expected.items() <= restore(OWNER, job_id, "", None).items()
    # Whoever has typed something else meanwhile keeps it.
    for pasted, upload in (("fever", None), ("", "words.txt")):
        assert not restore(OWNER, job_id, pasted, upload).keys() & expected.keys()
    assert restore("somebody-else-entirely-1", job_id, "", None) == {}


@pytest.mark.parametrize(
    ("shown", "parameters"),
    [
        ({"source": "language", "language": "auto:de", "size": "1,000"}, ("auto:de", 1000)),
        ({"source": "language", "language": "auto", "size": "40MB"}, ("auto", "40MB")),
        ({"source": "language", "size": ""}, ("auto", 30_000)),
        ({"source": "corpus", "size": "500"}, ("auto:corpus", 500)),
    ],
)
def test_automatic_words_go_along_and_come_back(
    store: FakeStore, tmp_path: Path, shown: dict[str, str], parameters: tuple[str, int | str]
) -> None:
    corpus = tmp_path / "sentences.txt"
    corpus.write_text("A sentence.\n" * 9)
    form = {"mode": "subword", "pasted": "left over", "corpus": str(corpus), **shown}
    job_id = submit(OWNER, **DEFAULTS | form)
    spec = store.submitted[0][0]
    assert (spec.parameters["vocabulary"], spec.parameters["vocabulary_size"]) == parameters
    assert "vocabulary" not in spec.texts
    store.jobs[job_id] = (OWNER, make_job(parameters=spec.parameters))
    reload()
    expected = {"mode": "subword", "source": shown["source"], "size": str(parameters[1])}
    if shown["source"] == "language":
        expected["language"] = parameters[0]
    assert expected.items() <= restore(OWNER, job_id, "", None).items()


def test_words_of_sentences_need_sentences(store: FakeStore) -> None:
    with pytest.raises(InputError, match="no sentences to extract words from. Upload a file of sentences"):
        submit(OWNER, **DEFAULTS | {"mode": "word", "source": "corpus"})
    assert not store.submitted


def test_counts_go_along_and_come_back(store: FakeStore, vocabulary_file: WriteFile) -> None:
    lines = ["aspirin\t9.0", "heart attack\t7.5"]
    uploads = [vocabulary_file("words.csv", "word,count\nheart attack,7.5\naspirin,9\n")]
    uploads.append(vocabulary_file("words.txt", "heart attack\t7.5\naspirin\t9\n"))
    for upload in uploads:
        submit(OWNER, **DEFAULTS | {"mode": "word", "source": "upload", "upload": upload})
    job_id = submit(OWNER, **DEFAULTS | {"mode": "word", "pasted": "heart attack\t7.5\naspirin\t9"})
    assert [spec.texts["vocabulary"] for spec, *_ in store.submitted] == [lines] * 3
    assert "The counts determine" in lint("upload", "", uploads[0], None)[1]
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[2][0].parameters))
    reload()
    assert restore(OWNER, job_id, "", None)["pasted"] == "\n".join(lines)


def test_a_bad_count_is_named(vocabulary_file: WriteFile) -> None:
    upload = vocabulary_file("words.csv", "word,count\naspirin,9\nfever,-2\n")
    assert "The count of &#39;fever&#39; in line 3 is &#39;-2&#39;" in lint("upload", "", upload, None)[1]


def test_a_job_without_words_brings_back_its_mode(store: FakeStore) -> None:
    job_id = submit(OWNER, **DEFAULTS)
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[0][0].parameters))
    reload()
    shown = restore(OWNER, job_id, "", None)
    assert shown["mode"] == "output" and not shown.keys() & {"source", "pasted", "message"}


def test_a_run_begun_here_leaves_the_form_as_it_is(store: FakeStore) -> None:
    reload()
    job_id = submit(OWNER, **DEFAULTS | {"dims": "64"})
    store.jobs[job_id] = (OWNER, make_job(parameters=store.submitted[0][0].parameters))
    # What was edited between the click and its answer must not be written over.
    assert restore(OWNER, job_id, "", None) == {}
    reload()
    assert restore(OWNER, job_id, "", None)["dims"] == "64"


@pytest.mark.parametrize("name", sorted(_SETTINGS))
@pytest.mark.parametrize("value", [None, 7, "else", [1]], ids=str)
def test_whatever_a_program_set_can_be_shown(store: FakeStore, name: str, value: object) -> None:
    store.add(OWNER, make_job(parameters={"model_name": "a/b", "pca_dims": 64, name: value}))
    shown = restore(OWNER, JOB_ID, "x", None)
    assert shown["teacher"] == "a/b" and "message" not in shown
    if name != "pca_dims":
        assert shown["dims"] == "64"
    offered = {"weighting": WEIGHTINGS, "pooling": POOLINGS, "precision": PRECISIONS, "device": DEVICES}
    for setting, choices in (offered | {"recipe": RECIPES}).items():
        assert shown[setting] in [choice for _, choice in choices]


def test_no_coefficient_is_no_weighting(store: FakeStore) -> None:
    store.add(OWNER, make_job(parameters={"model_name": "a/b", "sif_coefficient": None}))
    shown = restore(OWNER, JOB_ID, "x", None)
    assert shown["weighting"] == "none" and "sif_coefficient" not in shown


def test_what_fails_unforeseen_is_said(store: FakeStore) -> None:
    store.add(OWNER, make_job(parameters={}))
    shown = restore(OWNER, JOB_ID, "", None)
    assert list(shown) == ["message"] and "Incident" in shown["message"]


def test_search(store: FakeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    model = SimpleNamespace(search=lambda query, k: [Neighbor("queen", 0.9, 0)] if query == "king" else [])
    monkeypatch.setattr(distill, "finished_model", lambda owner, job_id: model)
    assert "queen" in search(OWNER, "id", "king")
    assert "None of these words are in" in search(OWNER, "id", "xyzzy")
    assert search(OWNER, "id", "  ") == ""


def test_search_in_a_model_that_is_gone(store: FakeStore) -> None:
    assert "The search failed" in search(OWNER, "0" * 32, "king")


def test_a_box_that_nobody_touched_holds_no_words() -> None:
    with pytest.raises(VocabularyError, match="no words yet"):
        vocabulary_lines("paste", None, None, None, False)


TOKEN, OTHER = "hf_" + "R" * 34, "hf_" + "X" * 34


@pytest.fixture
def closed_hub(
    session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> LoopbackHub:
    """A Hub with a private, a gated and a public teacher, and one account that may read them."""
    monkeypatch.setattr(preflight_card, "_cache", {})
    monkeypatch.setattr(
        session_hub, "users", {**session_hub.users, TOKEN: User("ada", orgs=("lab",)), OTHER: User("eve")}
    )
    folder = build_teacher_once("wordpiece")
    session_hub.add("lab/closed-private", folder, private=True)
    session_hub.add("lab/closed-gated", folder, gated=True)
    session_hub.add("lab/open", folder)
    return session_hub


def card_for(teacher: str, token: str | None) -> tuple[str, bool]:
    shown = distill.check_for_visitor(
        gr.Request(),
        None if token is None else gr.OAuthToken(token, "", 0),
        *(teacher, "output", "paste", "", None, None, "auto", "", "256", "float16", "", "", "fast", "", "auto"),
        *("auto", None, None),
    )
    return shown["card"], shown["start"].interactive


def test_who_may_read_a_teacher_sees_it(closed_hub: LoopbackHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "studio")
    # This Hub opens its gates to whoever is signed in.
    for teacher, is_open_to_others in (("lab/closed-private", False), ("lab/closed-gated", True)):
        for token, can_read in ((None, False), (TOKEN, True), (None, False), (OTHER, is_open_to_others)):
            card, can_start = card_for(teacher, token)
            assert ("sign in below" in card) is (token is None and teacher == "lab/closed-private")
            assert can_start is can_read and ("rows of" in card) is can_read, (teacher, token)
        closed_hub.requests.clear()
        card_for(teacher, TOKEN)
        assert closed_hub.requests == []
    assert TOKEN not in repr(preflight_card._cache)


@pytest.mark.parametrize(
    ("teacher", "secrets"),
    [("lab/closed-private", {"hf_token": TOKEN}), ("lab/closed-gated", {"hf_token": TOKEN}), ("lab/open", {})],
)
def test_a_job_gets_the_token_where_it_needs_it(
    closed_hub: LoopbackHub, store: FakeStore, monkeypatch: pytest.MonkeyPatch, teacher: str, secrets: dict[str, str]
) -> None:
    monkeypatch.setenv("OAUTH_CLIENT_ID", "studio")
    submit(OWNER, **DEFAULTS | {"teacher": teacher, "who": Visitor(TOKEN)})
    submit(OWNER, **DEFAULTS | {"teacher": teacher})
    # On one's own machine a job has what `hf auth login` keeps, and the shared cache.
    monkeypatch.delenv("OAUTH_CLIENT_ID")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    submit(OWNER, **DEFAULTS | {"teacher": teacher, "who": Visitor(TOKEN)})
    assert store.secrets == [secrets, {}, {}]


def test_a_handler_that_fails_unforeseen_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(own_words, "clean_lines", fail)
    for handler in (lint, clean_words):
        _, report, button, is_cleaned = handler("paste", "a\n\nb", None, None)
        assert "Incident" in report and not button.visible and not is_cleaned


def test_words_that_are_gone_can_not_be_cleaned(tmp_path: Path) -> None:
    _, report, button, is_cleaned = clean_words("upload", "", str(tmp_path / "gone.txt"), None)
    assert "can&#39;t be cleaned" in report and not button.visible and not is_cleaned


def test_the_expected_scores_of_efforts_are_the_measured_ones() -> None:
    measured = (Path(__file__).parents[2] / "benchmarks" / "quality.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (?:\*\*`(\w+)`: .*?|(model2vec) 0\.10) \|((?: [\d.]+ \|){6})$", measured, flags=re.MULTILINE
    )
    scores = {
        effort or recipe: np.mean([float(score) for score in cells.split("|")[:-1]]) for effort, recipe, cells in rows
    }
    assert scores.keys() == {"quick", "balanced", "best", "model2vec"}
    for label, effort in EFFORTS:
        assert f"Expected score: {scores[effort]:.1f}." in label
    assert f"Model2Vec reaches {scores['model2vec']:.1f}." in EFFORT_INFO
