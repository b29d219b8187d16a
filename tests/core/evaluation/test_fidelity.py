"""Fidelity compared with SciPy and sets of neighbors, and the coverage of its interval."""

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


def ranked_others(view, text):
    """The other texts by descending similarity."""
    return sorted((other for other in range(len(view)) if other != text), key=lambda other: -view[text, other])


def test_ranking_and_neighbors():
    teacher, static = two_views(60, 0.7)
    found = compare_embeddings(teacher, static, n_neighbours=5, resamples=200)
    shared = [
        len({*ranked_others(cosines(teacher), text)[:5]} & {*ranked_others(cosines(static), text)[:5]}) / 5
        for text in range(60)
    ]
    assert found.overlap.value == pytest.approx(np.mean(shared))
    for estimate in (found.correlation, found.overlap):
        assert estimate.low < estimate.value < estimate.high


class RowEncoder:
    """Encodes "text N" as row N of an array."""

    def __init__(self, rows):
        self.facts = LetterEncoder("rows", "teacher").facts
        self.encode = lambda texts: rows[[int(text.split()[1]) for text in texts]]


def test_few_texts_are_compared_in_all_pairs():
    teacher, static = two_views(6, 0.7)
    found = compare_embeddings(teacher, static, resamples=0)
    above = np.triu_indices(6, k=1)
    assert found.n_pairs == 15
    expected = spearmanr(cosines(teacher)[above], cosines(static)[above]).statistic
    assert found.correlation.value == pytest.approx(expected, abs=1e-5)


def test_pairs_are_stratified_over_the_teachers_ranking():
    """Of a text's 15 pairs, 5 are its nearest neighbors, 5 have log-uniform ranks and 5 uniform ones."""
    teacher, static = two_views(700, 0.7)
    task = teacher_task(RowEncoder(teacher), [f"text {number}" for number in range(700)])
    pairs = set(zip(task.left.tolist(), task.right.tolist(), strict=True))
    assert len(pairs) == len(task.left) and all(one < other for one, other in pairs)
    view, ranks = cosines(teacher), []
    for text in range(700):
        others = ranked_others(view, text)
        assert all((min(text, near), max(text, near)) in pairs for near in others[:5])
        ranks += [rank for rank, other in enumerate(others) if (min(text, other), max(text, other)) in pairs]
    found = compare_embeddings(teacher, static, resamples=0)
    expected = spearmanr(*(cosines(each)[task.left, task.right] for each in (teacher, static))).statistic
    assert found.n_pairs == len(pairs) and found.correlation.value == pytest.approx(expected, abs=1e-5)
    middle, far = (np.mean([low <= rank < high for rank in ranks]) for low, high in ((5, 60), (60, 700)))
    assert 0.15 < middle < 0.4 and 0.3 < far < 0.6  # random pairs alone: 0.08 and 0.91


def test_the_interval_has_the_stated_coverage():
    """Pairs share texts, so an interval from drawing pairs would be too narrow; drawing texts is correct."""
    truth = np.mean(
        [compare_embeddings(*two_views(60, 1.0, seed), resamples=0).correlation.value for seed in range(100, 300)]
    )
    hits = 0
    for seed in range(40):
        found = compare_embeddings(*two_views(60, 1.0, seed), resamples=150).correlation
        hits += found.low <= truth <= found.high
    assert hits >= 33  # 38 expected; the probability of fewer than 33 is 1 in 200 at 95%


def test_the_same_model_keeps_everything():
    teacher, _ = two_views(30, 0.0)
    found = compare_embeddings(teacher, teacher * 3, resamples=50)
    assert found.correlation.value == pytest.approx(1.0) and found.overlap.value == 1.0
    assert found.verdict == (
        "Matches the teacher's similarity ranking: 1.00 (95% interval 1.00 to 1.00). "
        "Shares 100% (95% interval 100% to 100%) of each text's 10 nearest neighbors."
    )
    assert found.warning is None


def test_equal_embeddings_have_fidelity_zero():
    teacher, _ = two_views(30, 0.0)
    found = compare_embeddings(teacher, np.ones_like(teacher), resamples=20)
    assert found.correlation.value == 0 and found.verdict.startswith("Matches the teacher's similarity ranking: 0.00 (")


def test_fidelity_as_plain_values():
    found = compare_embeddings(*two_views(30, 0.5), resamples=20)
    assert json.loads(json.dumps(found.to_json()))["n_pairs"] == found.n_pairs


@pytest.mark.parametrize("n_texts", [3, MIN_FIDELITY_TEXTS - 1])
def test_few_texts_are_rejected(n_texts):
    texts = [f"text {number}" for number in range(n_texts)]
    for measure in (
        lambda: measure_fidelity(LetterEncoder(), [LetterEncoder()], texts * 2),
        lambda: teacher_task(LetterEncoder(), texts),
    ):
        with pytest.raises(InputError, match=f"at least 512 different texts, but there are only {n_texts}"):
            measure()


def test_encoders_encode_each_text_once():
    texts = [f"{chr(97 + n % 26)}{chr(97 + n // 26)} sea" for n in range(600)]
    teacher, static, events = LetterEncoder("t", "teacher"), LetterEncoder("s"), []
    encoders = [static, TfidfEncoder()]
    same, other = measure_fidelity(teacher, encoders, [*texts, *texts, " "], resamples=0, progress=events.append)
    assert same.n_texts == 600 == teacher.n_read == static.n_read and same.correlation.value == pytest.approx(1)
    assert other.n_texts == 600 and other.correlation.value < 0.9
    assert (events[-1].done, events[-1].total) == (1800, 1800)


def test_invalid_embeddings_are_rejected():
    texts = [f"text {number}" for number in range(512)]
    with pytest.raises(InputError, match="broken returned NaN"):
        measure_fidelity(LetterEncoder(), [BrokenEncoder(lambda array: array * np.nan)], texts)


def test_the_task_gives_the_same_figure():
    texts = [f"{one} and {other} or {third}" for one in WORDS for other in WORDS for third in WORDS[:20]][:900]
    teacher, judged = LetterEncoder("t", "teacher"), TfidfEncoder()
    [fidelity] = measure_fidelity(teacher, [judged], texts, resamples=0)
    [score] = evaluate([judged], [teacher_task(teacher, texts)], resamples=0).scores
    assert score.score == pytest.approx(100 * fidelity.correlation.value, abs=1e-3)
    assert 0 < score.score < 90


def test_texts_of_another_language_cause_a_warning():
    english = static_model("WordPiece")
    encoder = StaticEncoder(english, "english")
    chinese = [f"我最喜欢在下雨天听歌 {number}" for number in range(512)]
    [found] = measure_fidelity(LetterEncoder(), [encoder], chinese, resamples=0)
    assert found.warning is not None and "was not made for these texts" in found.warning
    [found] = measure_fidelity(LetterEncoder(), [encoder], [f"the fox {number}" for number in range(512)], resamples=0)
    assert found.text_warning is None
    scores = evaluate([encoder], [teacher_task(LetterEncoder(), chinese)], resamples=0).scores
    assert any("was not made for these texts" in note for note in scores[0].notes)
