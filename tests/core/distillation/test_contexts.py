"""Contextual token vectors against a loop over characters and hidden states."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from m2v_core.distillation.cache import TextOutputs
from m2v_core.distillation.calibration.contexts import StateCollector, contextual_vectors, rows_of_tokens
from m2v_core.distillation.teacher.source import locate_teacher
from m2v_core.distillation.teacher.teacher import Teacher
from m2v_core.progress import ProgressReporter
from m2v_core.tokenization import build_static_vocabulary
from tests import teachers

FAMILIES = ("wordpiece", "unigram", "bpe")


def owners(ours, read, n_before: int) -> list[int]:
    """For each of the teacher's tokens, the static token that contains its last character."""
    found = []
    for mine, theirs in zip(ours, read, strict=True):
        for start, stop in theirs.offsets:
            last = stop - 1 - n_before
            inside = [i for i, (a, b) in zip(mine.ids, mine.offsets, strict=True) if a <= last < b]
            found.append(inside[-1] if stop > start and inside else -1)
    return found


@pytest.fixture(scope="module", params=teachers.FAMILIES)
def family(request, tmp_path_factory):
    folder = teachers.build_teacher(request.param, tmp_path_factory.mktemp("contexts") / "tiny")
    teacher = Teacher.load(locate_teacher(str(folder)), "cpu")
    static = build_static_vocabulary(
        teacher.tokenizer, ["new york", "zebra", "running"], True, None, teacher.pad_token, teacher.max_length
    ).tokenizer
    return teacher, static


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.sampled_from(["", "query: "]))
def test_each_token_of_the_teacher_belongs_to_the_row_it_ends_in(family, texts, prompt):
    teacher, static = family
    theirs = Tokenizer.from_str(teacher.tokenizer.to_str())
    theirs.no_padding()
    ours = static.encode_batch(texts, add_special_tokens=False)
    read = theirs.encode_batch([prompt + text for text in texts])
    found = rows_of_tokens(ours, read, len(prompt))
    assert found.tolist() == owners(ours, read, len(prompt))


def test_states_are_added_up_by_row(family):
    teacher, static = family
    texts = ["The zebra runs in New York.", "a zebra", "", "running running zebra " * 300]
    n_rows = static.get_vocab_size()
    collector = StateCollector(static, n_rows)
    embeddings = teacher.embed_texts(texts, ProgressReporter(), collector)
    found = collector.outputs(embeddings)
    sums, counts = np.zeros((n_rows, teacher.model.config.hidden_size)), np.zeros(n_rows)
    longest = teacher.max_text_length
    for text in texts:
        theirs = Tokenizer.from_str(teacher.tokenizer.to_str())
        theirs.no_padding()
        theirs.enable_truncation(longest)
        read = theirs.encode(text)
        rows = owners([static.encode(text, add_special_tokens=False)], [read], 0)
        with torch.inference_mode():
            states = teacher.model(torch.tensor([read.ids]), torch.ones(1, len(read.ids), dtype=torch.int64))[0][0]
        for row, state in zip(rows, states.numpy(), strict=True):
            if row >= 0:
                sums[row] += state
                counts[row] += 1
    assert counts.sum() > 20
    np.testing.assert_array_equal(found.state_counts, counts)
    np.testing.assert_allclose(found.state_sums, sums, atol=2e-3)


def test_rows_without_contexts_keep_their_direction():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(8, 5)).astype(np.float32)
    counts = np.array([0, 0, 1, 2, 5, 100, 1000, 100_000], np.float32)
    states = random.normal(size=(8, 5)).astype(np.float32) * 3
    found = contextual_vectors(vectors, [TextOutputs(vectors, states * counts[:, None], counts)])
    centred = vectors - vectors.mean(axis=0)
    np.testing.assert_allclose(found[:2], centred[:2], rtol=1e-5)
    mean = (states * counts[:, None]).sum(axis=0) / counts.sum()
    for i in range(8):
        expected = (3 * centred[i] + counts[i] * (states[i] - mean)) / (3 + counts[i])
        np.testing.assert_allclose(found[i], expected, rtol=1e-3, atol=1e-4)
