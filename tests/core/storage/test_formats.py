"""Which releases of other libraries load a model, and the texts about them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from m2v_core.storage.formats import LAGHU, MODEL2VEC, READERS, SENTENCE_TRANSFORMERS, Form
from tests.static_models import static_model


@pytest.mark.parametrize(
    ("arguments", "model2vec", "sentence_transformers", "laghu"),
    [
        ({}, "0.8", "5.0", "0.2"),
        ({"dtype": "float16"}, "0.8", "5.0", "0.2"),
        ({"dtype": "int8"}, "0.8", "6.2", "0.2"),
        ({"n_clusters": 20}, "0.8", "6.2", "0.2"),
        ({"max_length": 5}, "0.8", "5.0", "0.2"),
        ({"max_length": 513}, "0.10", "5.0", None),
        ({"max_length": None, "dtype": "int8"}, "0.10", "6.2", None),
    ],
)
def test_the_oldest_release_depends_on_the_form(arguments, model2vec, sentence_transformers, laghu):
    form = Form.of(static_model(**arguments).stored())
    found = [form.oldest_release(reader) for reader in (MODEL2VEC, SENTENCE_TRANSFORMERS, LAGHU)]
    assert found == [model2vec, sentence_transformers, laghu]


@pytest.mark.parametrize("arguments", [{}, {"dtype": "float16"}, {"dtype": "int8"}, {"n_clusters": 20}])
@pytest.mark.parametrize("normalize", [True, False])
def test_the_card_states_the_releases_of_the_table(tmp_path, arguments, normalize):
    model = static_model(normalize=normalize, **arguments)
    model.save_pretrained(tmp_path)
    form = Form.of(type(model).from_pretrained(tmp_path).stored())
    card = (tmp_path / "README.md").read_text()
    releases = re.findall(r"^With (.+) (\S+) or later:$", card, re.MULTILINE)
    assert releases == [
        ("model2vec", form.oldest_release(MODEL2VEC)),
        ("Sentence Transformers", form.oldest_release(SENTENCE_TRANSFORMERS)),
    ]
    assert (".float()" in card) == form.is_converted == (arguments == {"dtype": "float16"} and normalize)


def test_notes_are_only_for_readers_that_need_a_newer_release():
    assert Form.of(static_model().stored()).notes() == []
    assert Form.of(static_model(dtype="int8").stored()).notes() == ["This model requires sentence-transformers >= 6.2."]
    (note,) = Form.of(static_model(dtype="float16").stored()).notes()
    assert ".float()" in note
    notes = Form.of(static_model(max_length=1000).stored()).notes()
    assert notes == ["This model requires model2vec >= 0.10.", "laghu truncates each text at 512 tokens."]


def test_a_default_prompt_is_noted():
    form = Form.of(static_model(prompts={"query": "q: "}, default_prompt_name="query").stored())
    readers = form.readers()
    assert readers["sentence-transformers"] == ">= 5.0"
    assert readers["model2vec"] == ">= 0.8, without the default prompt"
    assert form.notes() == [
        "model2vec and laghu apply no prompts; insert the model's default prompt before each text yourself."
    ]
    assert not Form.of(static_model(prompts={"query": "q: "}).stored()).has_default_prompt


def test_every_reader_is_listed():
    readers = Form.of(static_model(dtype="float16", max_length=1000).stored()).readers()
    assert readers == {
        "model2vec": ">= 0.10",
        "sentence-transformers": ">= 5.0, with .float()",
        "laghu": "no release",
    }
    assert list(readers) == [reader.package for reader in READERS]


def test_the_documentation_states_the_same_releases():
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    section = text.partition("### Supported releases of other libraries")[2]
    table = section.partition("|---|---|---|---|\n")[2].partition("\n\n")[0]
    stated = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in table.splitlines()]
    assert stated == [
        (reader.package, reader.oldest, reader.oldest_with_weights, reader.oldest_for_long_texts or "none")
        for reader in READERS
    ]
