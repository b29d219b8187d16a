"""Labeled texts that the small models of the tests can classify."""

from __future__ import annotations

import numpy as np

from m2v_core.model import StaticModel
from tests.static_models import static_model

TOPICS = {
    "sea": ["sea", "shells", "shore", "rivers", "sells", "run", "full"],
    "fox": ["quick", "brown", "fox", "jumps", "lazy", "dog", "over"],
    "rows": ["static", "embeddings", "fast", "row", "token", "mean", "rows"],
    "café": ["corner", "sold", "naïve", "résumés", "euros", "café"],
}
COMMON = ["the", "a", "and", "on", "of"]


def model(**arguments) -> StaticModel:
    return static_model("WordPiece", **arguments)


def labeled(n_texts=120, n_labels=3, seed=0) -> tuple[list[str], list[str]]:
    """Texts of words of one topic, common words, and sometimes a word of another topic."""
    rng = np.random.default_rng(seed)
    topics = list(TOPICS)[:n_labels]
    labels = [topics[number % n_labels] for number in range(n_texts)]
    texts = []
    for label in labels:
        words = [*rng.choice(TOPICS[label], 3), *rng.choice(COMMON, 3), *rng.choice(TOPICS[rng.choice(topics)], 1)]
        texts.append(" ".join(rng.permutation(words)))
    return texts, labels


def many_labeled(n_texts=120, seed=0) -> tuple[list[str], list[list[str]]]:
    """Texts with any number of topics, including none."""
    rng = np.random.default_rng(seed)
    texts, labels = [], []
    for _ in range(n_texts):
        chosen = [topic for topic in list(TOPICS)[:3] if rng.random() < 0.4]
        words = [*rng.choice(COMMON, 3), *(word for topic in chosen for word in rng.choice(TOPICS[topic], 3))]
        texts.append(" ".join(rng.permutation(words)))
        labels.append(chosen)
    return texts, labels
