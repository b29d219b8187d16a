"""The share card in the app: its numbers are those that the model's run measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from m2v_core.exploration.share_card import SIZE
from m2v_core.studio.library import Library
from pages.components import model_picker, served_files, share_card, word_map
from tests.pages.conftest import JOB_ID, FakeStore, done_job
from tests.static_models import static_model

OWNER = "owner-owner-owner-owner-1"
MEASURED = {
    "fidelity": 0.851,
    "fidelity_interval": [0.83, 0.87],
    "fidelity_on": "10,000 pairs of 512 English sentences",
    "n_fidelity_texts": 512,
    "sentences_per_second": 51234.0,
    "times_the_teacher": [100.0, 110.0],
    "teacher_sentences_per_second": 487.0,
    "teacher_bytes": 80_000,
    "is_teacher_extrapolated": False,
    "hardware": "2 cores",
}


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch, store: FakeStore, tmp_path: Path) -> Library:
    library = Library(tmp_path / "models", jobs=store)  # type: ignore[arg-type]
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))
    for module in (share_card, model_picker, served_files):
        monkeypatch.setattr(module, "model_library", lambda: library)
    for module in (share_card, word_map):
        monkeypatch.setattr(module, "data_folder", lambda: tmp_path)
    monkeypatch.setattr(share_card, "job_store", lambda: store)
    word_map._map_maker.cache_clear()
    static_model().save_pretrained(store.result)
    return library


def test_the_card_is_drawn_and_can_be_downloaded(library: Library, store: FakeStore) -> None:
    store.add(OWNER, done_job(outcome=done_job().outcome | {"n_bytes": 16_000, "measured": MEASURED}, title="small"))
    record = library.contents(OWNER).models[0]
    assert share_card.share_facts(record, OWNER) == [
        ("16.0 kB", "5.0 times smaller than the teacher"),
        ("51,234 sentences/s", "100 to 110 times as fast as the teacher"),
        ("0.85", "match with the teacher's similarity ranking"),
    ]
    *_, shown = share_card.show_share_card(OWNER, JOB_ID)
    path = Path(
        shown["download"].value["path"] if isinstance(shown["download"].value, dict) else shown["download"].value
    )
    assert path.name == "small-card.png" and Image.open(path).size == SIZE
    assert shown["image"].visible and shown["download"].visible and shown["message"] == ""


def test_what_was_not_measured_is_not_on_the_card(library: Library, store: FakeStore) -> None:
    store.add(OWNER, done_job())
    record = library.contents(OWNER).models[0]
    facts = share_card.share_facts(record, OWNER)
    assert [meaning for _, meaning in facts] == ["on disk", f"{record.dim} dimensions"]


def test_a_foreign_model_has_no_card(library: Library, store: FakeStore) -> None:
    store.add(OWNER, done_job())
    *_, shown = share_card.show_share_card("another" * 4, JOB_ID)
    assert "Model not found" in shown["message"] and not shown["image"].visible
