"""Two ticked models: their facts, and the words whose neighbors changed most."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from m2v_core.exploration.differences import MIN_COMMON_WORDS
from m2v_core.model import StaticModel
from m2v_core.studio.library import Library, ModelRecord
from pages.components import model_difference, model_picker
from tests.pages.conftest import FakeStore, done_job
from tests.pages.test_share_card import MEASURED

EVIL = "<img src=x onerror=alert(1)>"
OWNER, OTHER = "owner-owner-owner-owner-1", "other-other-other-other-2"
WORDS = [f"{first}{second}" for first in "bcdfglmnpr" for second in ("alan", "erin", "inos", "otul", "umit", "yrem")]


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    made = Library(tmp_path / "models")
    for module in (model_difference, model_picker):
        monkeypatch.setattr(module, "model_library", lambda: made)
    monkeypatch.setattr(model_difference, "job_store", lambda: store)
    return made


@pytest.fixture
def add(library: Library, tmp_path: Path) -> Callable[..., ModelRecord]:
    def add(name: str, dim: int = 8, words: list[str] = WORDS, owner: str = OWNER, teacher: str = "") -> ModelRecord:
        rows = np.random.default_rng(dim).normal(size=(len(words) + 1, dim)).astype(np.float32)
        vocabulary = {word: place for place, word in enumerate([*words, "[UNK]"])}
        model = StaticModel(rows, Tokenizer(models.WordLevel(vocabulary, "[UNK]")))
        model.save_pretrained(tmp_path / "made")
        card = f"base_model: {json.dumps(teacher)}" if teacher else "license: mit"
        (tmp_path / "made" / "README.md").write_text(f"---\n{card}\n---\n")
        return library.add_from_folder(tmp_path / "made", owner, name)

    return add


def compared(*records: ModelRecord, owner: str = OWNER) -> dict[str, Any]:
    """What the panel shows in the end."""
    shown: dict[str, Any] = {}
    for values in model_difference.compare_ticked(owner, {"picked": None, "ticked": [record.id for record in records]}):
        shown |= values
    return shown


def text_of(html: str) -> str:
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html)).strip())


def test_two_models_are_compared(add: Callable[..., ModelRecord]) -> None:
    shown = compared(add("narrow", 8), add("wide", 12))
    assert shown["panel"].visible and shown["message"] == ""
    assert "Dimensions (differs) 8 12" in text_of(shown["facts"])
    assert "Tokens 61 61" in text_of(shown["facts"])  # the same, so without the mark
    says = text_of(shown["words"])
    assert f"This compares all {len(WORDS)} words" in says and re.search(r"On average, \d\.\d of a word's 10", says)
    assert shown["words"].count('<th scope="row">') == 12
    for word in WORDS:
        for own in re.findall(rf"<strong>{word}</strong> \d of 10 shared</th>(.*?)</tr>", shown["words"]):
            assert [text_of(cell).count(",") for cell in re.findall("<td>(.*?)</td>", own)] == [9, 9]


def test_only_two_models_are_compared(add: Callable[..., ModelRecord]) -> None:
    first, second, third = add("a", 8), add("b", 9), add("c", 10)
    for records in ((), (first,), (first, second, third), (first, first)):
        shown = compared(*records)
        assert not shown["panel"].visible and shown["facts"] == shown["words"] == ""


def test_another_owners_model_is_not_found(add: Callable[..., ModelRecord]) -> None:
    shown = compared(add("mine", 8), add("theirs", 9, owner=OTHER))
    assert "Model not found" in shown["message"] and shown["facts"] == shown["words"] == ""


def test_too_few_common_words_are_an_error_below_the_facts(add: Callable[..., ModelRecord]) -> None:
    others = [word.upper() for word in WORDS]
    shown = compared(add("a", 8), add("b", 8, WORDS[: MIN_COMMON_WORDS - 1] + others))
    assert f"{MIN_COMMON_WORDS - 1} whole words in common" in shown["message"]
    assert shown["panel"].visible and "Tokens (differs)" in text_of(shown["facts"]) and shown["words"] == ""


def test_markup_is_shown_as_text(add: Callable[..., ModelRecord]) -> None:
    words = [*WORDS, EVIL]
    shown = compared(add(EVIL, 8, words, teacher=EVIL), add("b", 9, words))
    assert EVIL not in shown["facts"] + shown["words"] and "&lt;img" in shown["facts"]


@pytest.mark.parametrize(
    ("interval", "teachers", "is_marked", "note"),
    [
        ([0.86, 0.9], ("t", "t"), False, "intervals of quality overlap"),
        ([0.88, 0.9], ("t", "t"), True, ""),
        ([0.88, 0.9], ("t", "u"), False, "each model was compared with its own teacher"),
        ([0.88, 0.9], ("", ""), False, "each model was compared with its own teacher"),
    ],
)
def test_quality_differs_only_beyond_its_intervals_and_with_one_teacher(
    add: Callable[..., ModelRecord],
    store: FakeStore,
    interval: list[float],
    teachers: tuple[str, str],
    is_marked: bool,
    note: str,
) -> None:
    records = [add("a", 8, teacher=teachers[0]), add("b", 9, teacher=teachers[1])]
    for record, measured in zip(records, (MEASURED, MEASURED | {"fidelity_interval": interval}), strict=True):
        store.add(OWNER, done_job(id=record.id, outcome={"n_bytes": 1, "measured": measured}))
    says = text_of(compared(*records)["facts"])
    assert ("Quality (differs)" in says) == is_marked
    assert note in says and ("intervals of quality" in says or "own teacher" in says) == bool(note)
    assert "Speed 51,234 sentences/s 51,234 sentences/s" in says and "small differences can be due to chance" in says
    store.jobs.clear()
    says = text_of(compared(*records)["facts"])
    assert "Speed Not measured Not measured Quality Not measured Not measured" in says and "chance" not in says
