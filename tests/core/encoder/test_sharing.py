"""One model shared by many threads and processes."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import random
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from m2v_core.encoder import chunked
from m2v_core.model import StaticModel
from tests.core.encoder import forms
from tests.core.encoder.paths import PATHS
from tests.static_models import random_table

SECONDS = float(os.environ.get("M2V_TEST_THREADS_SECONDS", "4"))
ATOMS = (*forms.WORDS, *forms.PHRASES, *forms.ODD, *forms.SPECIAL, *forms.SPACES)


def chunked_model(form: str, max_length: int | None = None) -> StaticModel:
    """A model with an empty cache that uses the kernels' subword model from the first text on."""
    tokenizer = forms.tokenizer(form)
    model = StaticModel(random_table(tokenizer.get_vocab_size(), 8), tokenizer, max_length=max_length)
    own = model._engine
    model._engine = PATHS["subwords"](own._table, own._tokenizer, own._characters_per_token)
    return model


def block(seed: int, n_texts: int = 30) -> list[str]:
    rng = random.Random(seed)
    words = [f"w{rng.randrange(5_000)}x" for _ in range(40)]
    return [" ".join(rng.choices((*ATOMS, *words), k=rng.randrange(2, 30))) for _ in range(n_texts)]


@pytest.mark.parametrize("form", ["BERT uncased", "Qwen 2"])
def test_threads_get_exact_results_with_an_empty_cache(form, monkeypatch):
    monkeypatch.setattr(chunked, "MAX_SLOTS", 1 << 11)  # chunks are evicted constantly
    monkeypatch.setattr(chunked, "_CHARACTERS_PER_PART", (1_000, 2_000))  # and each call uses several threads
    blocks = [block(seed) for seed in range(48)]
    judge = chunked_model(form)
    judge._engine = PATHS["plain"](judge._engine._table, judge._engine._tokenizer, 1)
    expected = [(judge.tokenize(texts), judge.encode(texts)) for texts in blocks]
    model = chunked_model(form)
    barrier = threading.Barrier(32)
    stop_at = time.monotonic() + SECONDS / 2

    def work(number: int) -> int:
        rng = random.Random(number)
        barrier.wait()
        n_rounds = 0
        while time.monotonic() < stop_at or not n_rounds:
            i = rng.randrange(len(blocks))
            ids, embeddings = expected[i]
            assert model.tokenize(blocks[i]) == ids
            np.testing.assert_allclose(model.encode(blocks[i]), embeddings, rtol=0, atol=1e-6)
            n_rounds += 1
        return n_rounds

    with ThreadPoolExecutor(32) as pool:
        assert sum(pool.map(work, range(32))) >= 32


def test_threads_that_start_together(monkeypatch):
    """One of them builds the subword model while the others encode."""
    tokenizer = forms.tokenizer("XLM-R")
    model = StaticModel(random_table(tokenizer.get_vocab_size(), 8), tokenizer)
    blocks = [block(seed, 40) for seed in range(16)]
    alone = [model.tokenize(texts) for texts in blocks]
    for n_characters in (1, 10_000, chunked.CHARACTERS_BEFORE_SUBWORDS):
        model = pickle.loads(pickle.dumps(model))
        monkeypatch.setattr(chunked, "CHARACTERS_BEFORE_SUBWORDS", n_characters)
        with ThreadPoolExecutor(16) as pool:
            assert list(pool.map(model.tokenize, blocks)) == alone


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_children_forked_while_threads_encode(monkeypatch):
    monkeypatch.setattr(chunked, "MAX_SLOTS", 1 << 11)
    monkeypatch.setattr(chunked, "_CHARACTERS_PER_PART", (1_000, 2_000))
    model = chunked_model("BERT uncased")
    blocks = [block(seed) for seed in range(16)]
    expected = [model.tokenize(texts) for texts in blocks]
    is_over = threading.Event()

    def work(number: int) -> None:
        while not is_over.is_set():
            i = random.randrange(len(blocks))
            assert model.tokenize(blocks[i]) == expected[i], number

    def is_right_in_child() -> bool:
        return [model.tokenize(texts) for texts in blocks] == expected and bool(model.encode(block(99)).any())

    with ThreadPoolExecutor(8) as pool:
        working = [pool.submit(work, number) for number in range(8)]
        try:
            assert [_exit_code_of_child(is_right_in_child) for _ in range(12)] == [0] * 12
        finally:
            is_over.set()
        for one in working:
            one.result()
    assert [model.tokenize(texts) for texts in blocks] == expected


def _exit_code_of_child(is_right: Callable[[], bool]) -> int:
    process_id = os.fork()
    if process_id == 0:
        try:
            os._exit(0 if is_right() else 1)
        except BaseException:
            os._exit(2)
    until = time.monotonic() + 60
    while time.monotonic() < until:
        done, status = os.waitpid(process_id, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(process_id, 9)
    os.waitpid(process_id, 0)
    return -1


def _tokenize_elsewhere(model: StaticModel, texts: list[str]) -> list[list[int]]:
    return model.tokenize(texts)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_get_the_model(method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system has no {method}")
    model = chunked_model("Qwen 2")
    texts = block(5)
    expected = model.tokenize(texts)
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_tokenize_elsewhere, (model, texts)) == expected


@pytest.mark.parametrize("form", ["BERT with phrases", "T5", "GPT-2"])
@pytest.mark.parametrize("copied", [copy.deepcopy, copy.copy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_of_a_warm_model(form, copied):
    model = chunked_model(form)
    texts = block(1)
    expected, embeddings = model.tokenize(texts), model.encode(texts)
    twin = copied(model)
    other = block(2)
    assert twin.tokenize(texts) == expected
    np.testing.assert_array_equal(twin.encode(texts), embeddings)
    assert twin.tokenize(other) == model.tokenize(other)
    assert twin._engine._tokenizer is twin.tokenizer


def test_a_pickle_does_not_contain_the_cache():
    model = chunked_model("BERT uncased")
    before = len(pickle.dumps(model))
    model.encode([" ".join(f"word{i}" for i in range(20_000))])
    assert len(pickle.dumps(model)) == before


def test_tokenizing_works_after_a_failure(monkeypatch):
    model = chunked_model("BERT uncased")
    texts = block(3)
    expected = model.tokenize(texts)
    monkeypatch.setattr(chunked.ChunkedReader, "_merge_new_chunks", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(MemoryError):
        model.tokenize(["words that were never seen"])
    monkeypatch.undo()
    assert model.tokenize(texts) == expected
    assert len(model.tokenize(["words that were never seen"])) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="counts the threads that Linux lists")
def test_threads_are_few(monkeypatch):
    monkeypatch.setattr(chunked, "_CHARACTERS_PER_PART", (100, 200))
    for seed in range(5):
        chunked_model("BERT uncased").tokenize(block(seed))
    ours = [thread for thread in threading.enumerate() if thread.name.startswith("m2v-encode")]
    assert 0 < len(ours) <= len(os.sched_getaffinity(0)) or len(os.sched_getaffinity(0)) == 1
