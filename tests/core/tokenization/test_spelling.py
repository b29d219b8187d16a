from __future__ import annotations

import pytest

from m2v_core.tokenization.spelling import readable_tokens


@pytest.mark.parametrize(
    ("tokens", "texts", "starts_word"),
    [
        (
            ["the", "##ing", "new york", "##", "[UNK]"],
            ["the", "ing", "new york", "##", "[UNK]"],
            [1, 0, 1, 1, 1],
        ),
        (["▁the", "ing", "▁new▁york", "▁"], ["the", "ing", "new york", ""], [1, 0, 1, 1]),
        (["Ġthe", "ing", "ĠcafÃ©", "東京"], ["the", "ing", "café", "東京"], [1, 0, 1, 1]),
        (["the", "of", "new york"], ["the", "of", "new york"], [1, 1, 1]),
        ([], [], []),
    ],
    ids=["WordPiece", "Unigram", "byte-level BPE", "word level", "empty"],
)
def test_readable_tokens(tokens: list[str], texts: list[str], starts_word: list[int]) -> None:
    found, starts = readable_tokens(tokens)
    assert found == texts
    assert starts.tolist() == [bool(start) for start in starts_word]
