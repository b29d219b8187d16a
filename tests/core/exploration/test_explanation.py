from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from m2v_core.exploration.explanation import Span, explain_similarity
from m2v_core.exploration.tables import plain_cell, write_csv
from m2v_core.model import StaticModel
from tests.static_models import TEXTS, TOKENIZERS, random_table, slow_embedding, static_model, wordpiece

MODELS = {kind: static_model(kind) for kind in TOKENIZERS}


def oracle_shares(model: StaticModel, a: str, b: str) -> list[float]:
    """Slow reference: the decrease of the cosine if one token is removed from the numerator, in order of the text."""
    tokenizer = Tokenizer.from_str(model.tokenizer.to_str())

    def rows(text: str) -> list[np.ndarray]:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        return [model.token_embeddings[i].astype(np.float64) for i in ids if i != model.unk_token_id]

    of_a, of_b = rows(a), rows(b)
    total_a, total_b = sum(of_a), sum(of_b)
    scale = np.linalg.norm(total_a) * np.linalg.norm(total_b)
    whole = total_a @ total_b / scale
    return [whole - (total_a - row) @ total_b / scale for row in of_a]


def shares(spans: tuple[Span, ...]) -> list[float]:
    return [span.share for span in spans if span.kind == "known"]


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_shares_are_the_contributions_of_tokens(kind: str) -> None:
    a, b = "The quick brown fox jumps over the lazy dog", "She sells sea shells by the sea shore"
    found = explain_similarity(MODELS[kind], a, b)
    for spans, slow in ((found.a, oracle_shares(MODELS[kind], a, b)), (found.b, oracle_shares(MODELS[kind], b, a))):
        # A space mark is merged with its neighbor, so not every token ends a span.
        sums, slow_sums = np.cumsum(shares(spans)), np.cumsum(slow)
        assert len(sums) == len(slow_sums) or kind in ("Unigram", "byte-level BPE")
        assert np.abs(sums[:, None] - slow_sums[None]).min(axis=1).max() < 1e-9
    assert [span.text for span in found.b if span.kind == "known"][2:4] == ["sea", "shells"]


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(a=st.one_of(st.sampled_from(TEXTS), st.text(max_size=60)), b=st.sampled_from(TEXTS))
def test_shares_sum_to_the_similarity_and_spans_to_the_text(kind: str, a: str, b: str) -> None:
    model = MODELS[kind]
    found = explain_similarity(model, a, b)
    vectors = [slow_embedding(model, text) for text in (a, b)]
    norms = np.linalg.norm(vectors, axis=1)
    expected = float(vectors[0] @ vectors[1] / norms.prod()) if norms.all() else 0.0
    assert found.similarity == pytest.approx(expected, abs=1e-5)
    for text, spans in ((a, found.a), (b, found.b)):
        assert "".join(span.text for span in spans) == text
        assert sum(span.share for span in spans) == pytest.approx(found.similarity, abs=1e-9)
        assert all(span.share == 0 for span in spans if span.kind != "known")


def test_weights_mapping_and_precision_are_used() -> None:
    weights = np.linspace(0.1, 2, len(MODELS["WordPiece"].tokens)).astype(np.float32)
    model = StaticModel(random_table(len(weights)), wordpiece(), weights=weights).compressed(quantize_to="int8")
    a, b = "the lazy dog", "a sea shell"
    found = explain_similarity(model, a, b)
    assert found.similarity == pytest.approx(float(model.similarity(model.encode(a), model.encode(b))[0, 0]), abs=1e-5)
    assert sum(shares(found.a)) == pytest.approx(found.similarity)


def test_unknown_and_unread_text_is_marked() -> None:
    model = MODELS["WordLevel"]
    spans = explain_similarity(model, "The unicorn fox", "fox").a
    assert [(span.text, span.kind) for span in spans] == [
        ("The", "known"),
        (" ", "between"),
        ("unicorn", "unknown"),
        (" ", "between"),
        ("fox", "known"),
    ]
    short = static_model("WordLevel", max_length=3)
    by_tokens = explain_similarity(short, ". . . fox", "fox").a
    assert [span.text for span in by_tokens if span.kind == "known"] == [".", ".", "."]
    assert by_tokens[-1] == Span(" fox", "unread")
    by_characters = explain_similarity(short, "the " * 9, "fox").a
    assert by_characters[-1].kind == "unread"
    assert sum(len(span.text) for span in by_characters[:-1]) <= short.max_characters
    nothing = explain_similarity(model, "unicorn", "fox")
    assert nothing.similarity == 0
    assert [span.kind for span in nothing.a] == ["unknown"]
    assert [(span.kind, span.share) for span in nothing.b] == [("known", 0.0)]


def test_the_bytes_of_one_character_are_one_span() -> None:
    found = explain_similarity(MODELS["byte-level BPE"], "the \U0001f984 fox", "the fox")
    assert "\U0001f984" in [span.text for span in found.a]


def test_lone_surrogates() -> None:
    with pytest.warns(UserWarning, match="1 lone surrogate"):
        found = explain_similarity(MODELS["WordPiece"], "the \ud83d fox", "fox")
    assert "".join(span.text for span in found.a) == "the \ufffd fox"


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t1", "\r1", "\n=1", "  =1", "\u00a0=1", "\uff1d1+1"]
)
def test_cells_are_never_formulas(text: str) -> None:
    assert plain_cell(text) == "'" + text


def test_csv_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "words.csv"
    write_csv(path, ["word", "rank", "x"], [['caf\u00e9, "the"', 3, -0.5], ["=cmd()", 4, 1e-3]])
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [["word", "rank", "x"], ['caf\u00e9, "the"', "3", "-0.5"], ["'=cmd()", "4", "0.001"]]
