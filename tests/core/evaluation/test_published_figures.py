"""Known figures: published scores on the real tasks, and scores of a plain script."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.encoders import TeacherEncoder, WordLlamaEncoder
from m2v_core.evaluation.run import evaluate
from tests.teachers import corpus_sentences

DATA = Path(__file__).parents[4] / "shared" / "eval"


@pytest.fixture(scope="module")
def teacher():
    return TeacherEncoder(bundled_folder(), "all-MiniLM-L6-v2")


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"no evaluation data in {DATA}")
@pytest.mark.parametrize(("name", "published"), [("STS13", 80.60), ("STS14", 75.59)])
def test_all_minilm_reaches_the_published_scores(teacher, name, published):
    """Source: https://huggingface.co/spaces/mteb/leaderboard, all-MiniLM-L6-v2."""
    (score,) = evaluate([teacher], read_tasks(DATA, [name]), resamples=0).scores
    assert score.score == pytest.approx(published, abs=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Pairs of neighboring words in a sorted list, scored by their common letters, with many ties."""
    words = sorted({word for line in corpus_sentences(300) for word in re.findall("[a-z]{3,}", line)})
    lines = []
    for left, right in zip(words[::3], words[1::3], strict=False):
        lines.append(f"{SequenceMatcher(None, left, right).ratio() * 10:.1f}\t{left}\t{right}\n")
    folder = tmp_path_factory.mktemp("data")
    (folder / "wordsim").mkdir()
    (folder / "wordsim" / "spelling.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


def by_hand(encode, path):
    """Compute the score without this library: plain file reading, cosines in a loop, SciPy's correlation."""
    scores, cosines = [], []
    vectors = {}
    lines = path.read_text(encoding="utf-8").strip().split("\n")
    words = sorted({word for line in lines for word in line.split("\t")[1:]})
    vectors = dict(zip(words, encode(words), strict=True))
    for line in lines:
        score, one, other = line.split("\t")
        left, right = (np.asarray(vectors[word], np.float64) for word in (one, other))
        scores.append(float(score))
        cosines.append(left @ right / (np.linalg.norm(left) * np.linalg.norm(right)))
    return 100 * spearmanr(scores, cosines).statistic


def test_wordllama_has_the_same_score_as_a_script(data):
    wordllama = pytest.importorskip("wordllama")
    package = next(iter(wordllama.__path__))
    model = wordllama.WordLlama.load(cache_dir=package, disable_download=True)
    (score,) = evaluate([WordLlamaEncoder()], read_tasks(data), resamples=0).scores
    assert score.score == pytest.approx(by_hand(model.embed, data / "wordsim" / "spelling.tsv"), abs=1e-3)


def test_the_teacher_has_the_same_score_as_a_script(teacher, data):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bundled_folder()), device="cpu")
    (score,) = evaluate([teacher], read_tasks(data), resamples=0).scores
    assert score.score == pytest.approx(by_hand(model.encode, data / "wordsim" / "spelling.tsv"), abs=1e-3)
