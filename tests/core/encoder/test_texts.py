"""Containers of texts, and texts that are not valid UTF-8, in every function that accepts them."""

from __future__ import annotations

import json
import warnings
from collections import UserDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas
import polars
import pyarrow
import pytest

from m2v_core import distill
from m2v_core.bulk.run import encode_file
from m2v_core.classification import StaticClassifier
from m2v_core.distillation.vocabulary import clean_vocabulary
from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import InputError, VocabularyError
from m2v_core.evaluation.encoders import TfidfEncoder
from m2v_core.evaluation.encoders.static import StaticEncoder
from m2v_core.evaluation.encoders.teacher import TeacherEncoder
from m2v_core.evaluation.fidelity import measure_fidelity
from m2v_core.evaluation.own_data import read_own_set
from m2v_core.evaluation.speed import compare_speed
from m2v_core.exploration.neighbors import DocumentNeighbors
from tests.core.classification.texts import labeled
from tests.static_models import LINES, static_model

MODEL = static_model("WordPiece")
TEXTS = [*LINES, "the \U0001f984 fox", ""]
COLUMNS: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "generator": iter,
    "dict's keys": lambda texts: dict.fromkeys(texts).keys(),
    "NumPy": np.array,
    "NumPy objects": lambda texts: np.array(texts, dtype=object),
    "NumPy strings": lambda texts: np.array(texts, dtype=np.dtypes.StringDType()),
    "pandas": lambda texts: pandas.Series(texts, index=range(5, 5 + len(texts))),
    "pandas of objects": lambda texts: pandas.Series(texts, dtype=object),
    "pandas of arrow": lambda texts: pandas.Series(texts, dtype="string[pyarrow]"),
    "pandas' index": pandas.Index,
    "Polars": polars.Series,
    "pyarrow": pyarrow.array,
    "large pyarrow": lambda texts: pyarrow.array(texts, pyarrow.large_string()),
    "pyarrow dictionary": lambda texts: pyarrow.array(texts).dictionary_encode(),
    "pyarrow chunks": lambda texts: pyarrow.chunked_array([texts[:3], texts[3:]]),
    "Datasets": lambda texts: datasets.Dataset.from_dict({"text": texts})["text"],
}
# Iterating over these yields column names, columns or rows.
TABLES: dict[str, tuple[Callable[[dict[str, list[str]]], Any], str]] = {
    "dict": (dict, 'data["text"]'),
    "mapping": (UserDict, 'data["text"]'),
    "pandas": (pandas.DataFrame, 'df["text"]'),
    "Polars": (polars.DataFrame, 'df["text"]'),
    "lazy Polars": (polars.LazyFrame, 'df["text"]'),
    "pyarrow": (pyarrow.table, 'table["text"]'),
    "pyarrow rows": (pyarrow.RecordBatch.from_pydict, 'table["text"]'),
    "Datasets": (datasets.Dataset.from_dict, 'dataset["text"]'),
    "streamed": (lambda columns: datasets.Dataset.from_dict(columns).to_iterable_dataset(), 'dataset["text"]'),
    "splits": (
        lambda columns: datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}),
        'dataset["train"]["text"]',
    ),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_a_column_of_texts_is_converted_to_a_list(kind: str):
    column = COLUMNS[kind]
    found = checked_texts(column(TEXTS))
    assert found == TEXTS and {type(text) for text in found} == {str}
    expected = MODEL.encode(TEXTS)
    np.testing.assert_array_equal(MODEL.encode(column(TEXTS)), expected)
    np.testing.assert_array_equal(np.concatenate(list(MODEL.encode_stream(column(TEXTS), block_size=3))), expected)
    assert MODEL.tokenize(column(TEXTS)) == MODEL.tokenize(TEXTS)
    assert clean_vocabulary(column(["the", "fox"])).words == ["the", "fox"]


def fidelity(texts: Any) -> Any:
    encoder = StaticEncoder(MODEL, "one")
    return measure_fidelity(encoder, [encoder], texts, resamples=0)


def train(texts: Any) -> Any:
    return StaticClassifier(MODEL).fit(texts, ["a", "b"])


ENTRANCES: dict[str, Callable[[Any], Any]] = {
    "encode": MODEL.encode,
    "encode_as_sequence": MODEL.encode_as_sequence,
    "encode_stream": lambda texts: list(MODEL.encode_stream(texts)),
    "tokenize": MODEL.tokenize,
    "fit": train,
    "labels": lambda labels: StaticClassifier(MODEL).fit(["a", "b"], labels),
    "vocabulary": lambda texts: distill("anything", texts),
    "corpus": lambda texts: distill("anything", corpus=texts),
    "words": clean_vocabulary,
    "fidelity": fidelity,
    "speed": lambda texts: compare_speed([StaticEncoder(MODEL, "one")], texts, rounds=1),
    "documents": lambda texts: DocumentNeighbors(MODEL, texts),
    "TF-IDF": lambda texts: TfidfEncoder().fit(texts),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", TABLES)
def test_a_table_is_rejected_with_its_column_in_the_message(kind: str, entrance: str):
    make, column = TABLES[kind]
    for columns in ({"text": list(LINES)}, {"id": list(LINES), "text": list(LINES)}):
        with pytest.raises(InputError) as raised:
            ENTRANCES[entrance](make(columns))
        assert column in str(raised.value)
    with pytest.raises(InputError) as raised:
        ENTRANCES[entrance](make({"body": list(LINES)}))
    assert column.replace("text", "body") in str(raised.value)


@pytest.mark.parametrize("entrance", sorted(ENTRANCES.keys() - {"labels"}))
def test_an_item_that_is_not_a_text_is_in_the_message(entrance: str):
    with pytest.raises(InputError, match=r"text 1 \(counting from 0\) is of type NoneType"):
        ENTRANCES[entrance](["the", None])
    with pytest.raises(InputError, match=r"text 1 .* NoneType"):
        ENTRANCES[entrance](pyarrow.array(["the", None]))


@pytest.mark.parametrize("value", [b"the", 7, None, np.array([["the"]]), np.array("the")])
def test_values_that_are_not_containers(value: Any):
    with pytest.raises(InputError, match="Pass a text or a list of texts, not"):
        MODEL.encode(value)


def test_a_classifier_predicts_columns_and_rejects_tables():
    texts, labels = labeled()
    classifier = StaticClassifier(MODEL).fit(pandas.Series(texts), pyarrow.array(labels), read_tokens=False)
    expected = classifier.predict(texts).tolist()
    assert classifier.predict(polars.Series(texts)).tolist() == expected
    table = pandas.DataFrame({"text": texts})[["text"]]
    for refused in (classifier.predict, classifier.predict_proba, lambda given: classifier.evaluate(given, labels)):
        with pytest.raises(InputError, match=r'pandas\.DataFrame.* df\["text"\]'):
            refused(table)


BROKEN = ["a \ud83d dog", "\udc36\ud83d", "a \ud83d\udc36 dog"]
REPLACED = ["a \ufffd dog", "\ufffd\ufffd", "a \U0001f436 dog"]


def warned_once(work: Callable[[], Any]) -> Any:
    with pytest.warns(UserWarning, match=r"3 lone surrogates were replaced with U\+FFFD") as caught:
        result = work()
    assert [str(each.message) for each in caught if "surrogate" in str(each.message)] == [str(caught[0].message)]
    return result


def unwarned(work: Callable[[], Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return work()


@pytest.mark.parametrize("family", ["wordpiece", "bytelevel"])
def test_surrogates_never_reach_a_teacher(family: str, build_teacher_once: Callable[[str], Path]):
    teacher = str(build_teacher_once(family))
    rest = ["a cat"] * 99
    settings = {"recipe": "fast", "device": "cpu", "pca_dims": 8}
    found = warned_once(lambda: distill(teacher, corpus=[*BROKEN, *rest], **settings))
    expected = distill(teacher, corpus=[*REPLACED, *rest], **settings)
    np.testing.assert_array_equal(found.token_embeddings, expected.token_embeddings)
    found = warned_once(lambda: distill(teacher, ["dog", *BROKEN], use_subword=False, device="cpu", pca_dims=None))
    assert len(found.tokenize(["dog"])[0]) == 1
    encoder = TeacherEncoder(teacher)
    np.testing.assert_array_equal(warned_once(lambda: encoder.encode(BROKEN)), encoder.encode(REPLACED))
    static = StaticEncoder(MODEL, "static")
    texts = [*LINES, *BROKEN]
    many = [*texts, *(f"a cat {number}" for number in range(512))]
    assert warned_once(lambda: measure_fidelity(encoder, [static], many, resamples=0))
    warned_once(lambda: compare_speed([encoder, static], texts, rounds=1))


def test_surrogates_in_files(tmp_path: Path):
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"text": text, "also": [text]}) + "\n" for text in [*BROKEN, "fine"]))
    with pytest.warns(UserWarning, match=r"in\.jsonl: 6 lone surrogates"):
        assert encode_file(MODEL, path, tmp_path / "out.jsonl").n_texts == 4
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text("utf-8").splitlines()]
    assert [row["text"] for row in rows] == [*REPLACED, "fine"] and [row["also"][0] for row in rows] == [
        *REPLACED,
        "fine",
    ]
    np.testing.assert_allclose([row["embedding"] for row in rows], unwarned(lambda: MODEL.encode([*REPLACED, "fine"])))

    path.write_text("".join(json.dumps([str(i % 5), text, "x"]) + "\n" for i, text in enumerate(BROKEN)))
    found = warned_once(lambda: read_own_set(path))
    assert [row[1] for row in found.rows] == REPLACED


def test_surrogates_in_documents():
    index = warned_once(lambda: DocumentNeighbors(MODEL, [*LINES, *(f"the fox {text}" for text in BROKEN)]))
    found = unwarned(lambda: index.search("the fox", 9))
    assert {f"the fox {text}" for text in REPLACED} <= {each.text for each in found}


def test_a_vocabulary_of_other_types():
    for words in (["the", 3], {"the": 1}, pandas.DataFrame({"text": ["the"]})):
        with pytest.raises(VocabularyError):
            clean_vocabulary(words)
