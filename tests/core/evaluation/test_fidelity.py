"""Fidelity against SciPy and sets of neighbours; its interval against what is known of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from m2v_core.errors import InputError
from m2v_core.evaluation.encoders import StaticEncoder, TfidfEncoder
from m2v_core.evaluation.evidence import MIN_FIDELITY_TEXTS
from m2v_core.evaluation.fidelity import compare_embeddings, measure_fidelity, teacher_task
from m2v_core.evaluation.run import evaluate
from tests.core.evaluation.sets import WORDS, BrokenEncoder, LetterEncoder
from tests.static_models import static_model


def two_views(n_texts, noise, seed=0):
    rng = np.random.default_rng(seed)
    teacher = rng.normal(size=(n_texts, 12)).astype(np.float32)
    return teacher, (teacher + noise * rng.normal(size=teacher.shape)).astype(np.float32)


def cosines(embeddings):
    units = embeddings.astype(float) / np.linalg.norm(embeddings, axis=1, keepdims=True)
    return units @ units.T


def test_ranking_and_neighbours():
    teacher, static = two_views(60, 0.7)
    found = compare_embeddings(teacher, static, n_neighbours=5, resamples=200)
    above = np.triu_indices(60, k=1)
    assert found.n_pairs == 60 * 59 // 2
    expected = spearmanr(cosines(teacher)[above], cosines(static)[above]).statistic
    assert found.correlation.value == pytest.approx(expected, abs=1e-5)
    shared = []
    for row in range(60):
        near = [
            set(sorted((n for n in range(60) if n != row), key=lambda n: -view[row, n])[:5])
            for view in (cosines(teacher), cosines(static))
        ]
        shared.append(len(near[0] & near[1]) / 5)
    assert found.overlap.value == pytest.approx(np.mean(shared))
    for estimate in (found.correlation, found.overlap):
        assert estimate.low < estimate.value < estimate.high


def test_a_sample_of_pairs_estimates_all_of_them():
    teacher, static = two_views(200, 0.7)
    everything = compare_embeddings(teacher, static, n_pairs=10**6, resamples=0).correlation.value
    sample = compare_embeddings(teacher, static, n_pairs=2000, resamples=100)
    assert sample.n_pairs == 2000
    assert sample.correlation.low < everything < sample.correlation.high


def test_interval_covers_the_truth_as_often_as_it_says():
    """Pairs share texts, so an interval from drawing pairs would be too narrow; that from drawing texts is not."""
    truth = compare_embeddings(*two_views(1500, 1.0, seed=99), n_pairs=10**6, resamples=0).correlation.value
    hits = 0
    for seed in range(40):
        found = compare_embeddings(*two_views(40, 1.0, seed), resamples=150).correlation
        hits += found.low <= truth <= found.high
    assert hits >= 33  # 38 expected; fewer than 33 has a chance of one in 200 at 95 %


def test_the_same_model_keeps_everything():
    teacher, _ = two_views(30, 0.0)
    found = compare_embeddings(teacher, teacher * 3, resamples=50)
    assert found.correlation.value == pytest.approx(1.0) and found.overlap.value == 1.0
    assert found.verdict.startswith("Keeps 100 % (95 % interval 100 to 100 %) of the teacher's ranking of 435 pairs")
    assert found.warning is None


def test_who_finds_all_alike_keeps_nothing():
    teacher, _ = two_views(30, 0.0)
    found = compare_embeddings(teacher, np.ones_like(teacher), resamples=20)
    assert found.correlation.value == 0 and "Keeps 0 %" in found.verdict


def test_fidelity_as_plain_values():
    found = compare_embeddings(*two_views(30, 0.5), resamples=20)
    assert json.loads(json.dumps(found.to_json()))["n_pairs"] == 435


@pytest.mark.parametrize("n_texts", [3, MIN_FIDELITY_TEXTS - 1])
def test_it_is_not_measured_on_few_texts(n_texts):
    texts = [f"text {number}" for number in range(n_texts)]
    for measure in (
        lambda: measure_fidelity(LetterEncoder(), [LetterEncoder()], texts * 2),
        lambda: teacher_task(LetterEncoder(), texts),
    ):
        with pytest.raises(InputError, match=f"fewer than 512 different texts, and there are {n_texts}"):
            measure()


def test_of_encoders_each_text_once():
    texts = [f"{chr(97 + n % 26)}{chr(97 + n // 26)} sea" for n in range(600)]
    teacher, static, events = LetterEncoder("t", "teacher"), LetterEncoder("s"), []
    encoders = [static, TfidfEncoder()]
    same, other = measure_fidelity(teacher, encoders, [*texts, *texts, " "], resamples=0, progress=events.append)
    assert same.n_texts == 600 == teacher.n_read == static.n_read and same.correlation.value == pytest.approx(1)
    assert other.n_texts == 600 and other.correlation.value < 0.9
    assert (events[-1].done, events[-1].total) == (1800, 1800)


def test_what_can_not_be_judged():
    texts = [f"text {number}" for number in range(512)]
    with pytest.raises(InputError, match="broken returned NaN"):
        measure_fidelity(LetterEncoder(), [BrokenEncoder(lambda array: array * np.nan)], texts)


def test_as_a_task_it_is_the_same_figure():
    texts = [f"{one} and {other} or {third}" for one in WORDS for other in WORDS for third in WORDS[:20]][:900]
    teacher, judged = LetterEncoder("t", "teacher"), TfidfEncoder()
    [fidelity] = measure_fidelity(teacher, [judged], texts, resamples=0)
    [score] = evaluate([judged], [teacher_task(teacher, texts)], resamples=0).scores
    assert score.score == pytest.approx(100 * fidelity.correlation.value, abs=1e-3)
    assert 0 < score.score < 90


def test_texts_of_another_language_are_told():
    english = static_model("WordPiece")
    encoder = StaticEncoder(english, "english")
    chinese = [f"我最喜欢在下雨天听歌 {number}" for number in range(512)]
    [found] = measure_fidelity(LetterEncoder(), [encoder], chinese, resamples=0)
    assert found.warning is not None and "was not made for these texts" in found.warning
    [found] = measure_fidelity(LetterEncoder(), [encoder], [f"the fox {number}" for number in range(512)], resamples=0)
    assert found.text_warning is None
    scores = evaluate([encoder], [teacher_task(LetterEncoder(), chinese)], resamples=0).scores
    assert any("was not made for these texts" in note for note in scores[0].notes)
