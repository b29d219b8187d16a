"""The recipe `model2vec` compared with the real package, from the same teacher."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from m2v_core import StaticModel, distill
from m2v_core.distillation.teacher.bundled import bundled_folder
from tests.teachers import corpus_sentences, udhr_paragraphs

EVAL = Path(__file__).parents[3] / "shared" / "eval"

needs_eval = pytest.mark.skipif(not EVAL.is_dir(), reason=f"the evaluation data is not in {EVAL}")


@pytest.fixture(scope="module")
def ours() -> StaticModel:
    return distill(str(bundled_folder()), pca_dims=256, device="cpu", recipe="model2vec")


@pytest.fixture(scope="module")
def theirs():
    model2vec = pytest.importorskip("model2vec.distill")
    return model2vec.distill(str(bundled_folder()), pca_dims=256, device="cpu")


def rows(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def unit(embeddings: np.ndarray) -> np.ndarray:
    embeddings = embeddings.astype(np.float64)
    return embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)


def test_similarities_equal_those_of_model2vec(ours: StaticModel, theirs):
    texts = [*corpus_sentences(1_500), *udhr_paragraphs()]
    mine, real = unit(ours.encode(texts)), unit(theirs.encode(texts))
    assert ours.tokens == theirs.tokens
    assert np.abs(mine @ mine.T - real @ real.T).max() <= 0.005


def human_agreement(model: StaticModel, folder: str) -> float:
    """Mean over the tasks of 100 x Spearman's rho of cosine and human score."""
    rhos = []
    for path in sorted((EVAL / folder).glob("*.tsv")):
        scores, left, right = zip(*rows(path), strict=True)
        cosines = (unit(model.encode(list(left))) * unit(model.encode(list(right)))).sum(axis=1)
        rhos.append(100 * spearmanr([float(score) for score in scores], cosines).statistic)
    return float(np.mean(rhos))


def accuracy(model: StaticModel) -> float:
    """Mean over the tasks of the accuracy in percent of logistic regression on standardized embeddings."""
    percentages = []
    for folder in sorted((EVAL / "classification").iterdir()):
        (train_labels, train_texts), (labels, texts) = (
            zip(*rows(folder / f"{part}.tsv"), strict=True) for part in ("train", "test")
        )
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        classifier.fit(model.encode(list(train_texts)), train_labels)
        percentages.append(100 * classifier.score(model.encode(list(texts)), labels))
    return float(np.mean(percentages))


# The scores of model2vec 0.10 with this teacher at 256 dimensions on this data.


@needs_eval
def test_sentence_similarity_reaches_model2vec(ours: StaticModel):
    assert human_agreement(ours, "sts") == pytest.approx(63.71, abs=0.1)


@needs_eval
def test_word_similarity_reaches_model2vec(ours: StaticModel):
    assert human_agreement(ours, "wordsim") == pytest.approx(45.85, abs=0.1)


@needs_eval
def test_classification_reaches_model2vec(ours: StaticModel):
    assert accuracy(ours) == pytest.approx(79.01, abs=0.1)
