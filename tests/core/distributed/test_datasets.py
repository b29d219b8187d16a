"""The callable in Hugging Face Datasets with two processes."""

from __future__ import annotations

import numpy as np
import pytest

from m2v_core.distributed.batches import BatchEncoder
from tests.core.distributed.files import texts_of, vectors_of

datasets = pytest.importorskip("datasets", reason="pip install datasets")


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_map_with_two_processes(dtype, model, model_folder):
    texts = texts_of(300)
    rows = datasets.Dataset.from_dict({"id": range(300), "text": texts}).with_format("arrow")
    encoded = rows.map(BatchEncoder(model_folder, dtype=dtype), batched=True, batch_size=64, num_proc=2)
    table = encoded[:]
    assert table["id"].to_pylist() == list(range(300))
    assert table["text"].to_pylist() == texts
    vectors = vectors_of(table)
    if dtype == "int8":
        assert vectors.dtype == np.int8
        vectors = vectors * table["embedding_scale"].to_numpy()[:, None]
        np.testing.assert_allclose(vectors, model.encode(texts), atol=1 / 200)
    else:
        np.testing.assert_array_equal(vectors, model.encode(texts))
