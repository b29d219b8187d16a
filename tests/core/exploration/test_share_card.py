from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from m2v_core.exploration.share_card import SIZE, draw_share_card
from m2v_core.exploration.topics import CLUSTER_COLORS, Topics

FACTS = [("12.3 MB", "5.7 times smaller than the teacher"), ("0.85", "match with the teacher's similarity ranking")]


def topics(clusters: list[int]) -> Topics:
    labels = np.array(clusters, dtype=np.int32)
    names = [f"topic {cluster}" for cluster in range(max(clusters, default=-1) + 1)]
    return Topics(labels, names, labels, names, np.ones(len(names), dtype=np.float32))


def drawn(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def test_the_card_has_the_size_of_link_previews_and_the_colors_of_the_clusters() -> None:
    points = np.random.default_rng(0).normal(size=(400, 2)).astype(np.float32)
    points[:200] += [20, 0]  # two separate clusters side by side
    card = drawn(draw_share_card("small", "someone/teacher", FACTS, points, topics([0] * 200 + [1] * 200)))
    assert card.shape == (SIZE[1], SIZE[0], 3)
    middle = 460 + (SIZE[0] - 460 - 30) // 2
    for columns, cluster in ((slice(middle + 20, None), 0), (slice(500, middle - 20), 1)):
        part = card[:, columns].reshape(-1, 3)
        wanted = [int(CLUSTER_COLORS[cluster][at : at + 2], 16) for at in (1, 3, 5)]
        colored = part[np.ptp(part, axis=1) > 60]  # labels and background are nearly gray
        assert len(colored) > 100
        assert np.corrcoef(colored.mean(axis=0), wanted)[0, 1] > 0.98


def test_the_text_is_on_the_left() -> None:
    points = np.zeros((0, 2), dtype=np.float32)
    with_text = drawn(draw_share_card("small", "someone/teacher", FACTS, points, topics([])))
    assert (with_text[:, :400] > 200).all(axis=2).sum() > 500
    assert (with_text[:, 700:] < 40).all()
    assert (drawn(draw_share_card("other", "", [], points, topics([]))) != with_text).any()


@settings(max_examples=10, deadline=None)
@given(
    st.text(st.characters(blacklist_categories=["Cs", "Cc"]), max_size=200),
    st.integers(0, 4),
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=5),
)
def test_any_name_and_any_points_can_be_drawn(text: str, n_facts: int, points: list[tuple[float, float]]) -> None:
    places = np.array(points, dtype=np.float32).reshape(-1, 2)
    png = draw_share_card(text, text, [(text, text)] * n_facts, places, topics(list(range(len(points)))))
    assert Image.open(io.BytesIO(png)).size == SIZE


def test_a_long_name_ends_before_the_map() -> None:
    points = np.zeros((0, 2), dtype=np.float32)
    card = drawn(draw_share_card("m" * 96, "someone/" + "t" * 90, FACTS, points, topics([])))
    assert (card[:, 680:] < 40).all() and (card[:, 560:680] > 200).any()


def test_without_pillow_the_error_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    from m2v_core.errors import MissingExtraError

    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="pip install"):
        draw_share_card("small", "", [], np.zeros((0, 2), dtype=np.float32), topics([]))
