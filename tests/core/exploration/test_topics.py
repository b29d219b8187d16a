"""Topics of a vocabulary: two levels of clusters, their names, and the order of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from m2v_core.exploration import topics
from m2v_core.exploration.topics import STOP_WORDS, find_topics, is_content_word, label_order, name_topics
from m2v_core.native.cosines import unit_rows


def vocabulary(n_groups: int = 4, n_words: int = 60, dim: int = 16) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Rows, texts and true groups: word 0 of each group is its center, the others are further away the later."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(n_groups), n_words)
    centers = rng.normal(size=(n_groups, dim)) * 3
    spread = np.tile(np.linspace(0.02, 0.6, n_words), n_groups)[:, None]
    rows = unit_rows((centers[groups] + rng.normal(size=(len(groups), dim)) * spread).astype(np.float32))
    letters = "abcdefghijklmnopqrstuvwxyz"
    texts = [
        f"{letters[group]}{letters[word % 26]}{letters[word // 26]}word"
        for group in groups[::n_words]
        for word in range(n_words)
    ]
    return rows, texts, groups


def test_a_topic_lies_in_one_cluster_and_is_named_by_its_own_words(tmp_path: Path) -> None:
    rows, texts, _ = vocabulary()
    found = find_topics(rows, texts, np.arange(len(texts)), tmp_path)
    for topic, name in enumerate(found.names):
        members = np.flatnonzero(found.labels == topic)
        assert len(set(found.clusters[members].tolist())) == 1
        assert set(name.split(", ")) <= {texts[member] for member in members}
    assert found.labels.max() + 1 == len(found.names) == len(found.cohesion)
    assert len(set(found.labels.tolist())) == len(found.names)  # none is empty
    assert len(found.cluster_names) == found.clusters.max() + 1
    assert ((found.cohesion > 0) & (found.cohesion <= 1 + 1e-6)).all()


def test_names_are_frequent_content_words_near_the_center() -> None:
    rows, texts, groups = vocabulary()
    labels = groups.astype(np.int32)
    texts[0], texts[1], texts[2] = "the", "##ing", "42"  # nearest to the center of their topic
    texts[61] = texts[60] + "s"  # the same stem
    names = name_topics(rows, labels, texts, np.arange(len(texts)))
    assert not {"the", "##ing", "42"} & set(names[0])
    assert not {texts[60], texts[61]} <= set(names[1])
    frequent = [set(texts[60 * group : 60 * group + 25]) for group in range(4)]
    assert all(set(name) <= words and len(name) == 3 for name, words in zip(names, frequent, strict=True))
    assert name_topics(rows[:0], labels[:0], [], np.arange(0)) == []
    assert name_topics(rows[:2], labels[:2], ["!", "?"], np.arange(2)) == [["!", "?"]]  # nothing better


def test_content_words() -> None:
    assert [is_content_word(text) for text in ("sea", "The", "an", "##ing", "x2", "\u4e2d\u56fd", "\u4e2d")] == [
        *(True, False, False, False, False, True, False)
    ]
    assert {word.casefold() for word in STOP_WORDS} == STOP_WORDS


def test_labels_show_frequent_content_words_first() -> None:
    texts = ["!", "the", "river", "sea"]
    order = label_order(texts, np.array([0, 1, 9, 4]))
    assert [texts[place] for place in order] == ["sea", "river", "!", "the"]


def test_topics_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, texts, _ = vocabulary()
    found = find_topics(rows, texts, np.arange(len(texts)), tmp_path)
    monkeypatch.setattr(topics, "split_clusters", lambda *_: pytest.fail("the topics were cached"))
    again = find_topics(rows.copy(), texts, np.arange(len(texts)), tmp_path)
    np.testing.assert_array_equal(again.labels, found.labels)
    assert again.names == found.names
    (kept,) = tmp_path.glob("topics-*.npy")
    kept.write_bytes(kept.read_bytes()[:-1])
    monkeypatch.undo()
    np.testing.assert_array_equal(find_topics(rows, texts, np.arange(len(texts)), tmp_path).labels, found.labels)
