"""Search results compared with the definition: rows, texts, cosines, and the recall of indexes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from m2v_core.bulk.run import encode_file
from m2v_core.distributed.run import encode_files
from m2v_core.errors import InputError, NotFoundError
from m2v_core.exploration.index import searching
from m2v_core.exploration.index.building import build_index
from m2v_core.exploration.index.searching import VectorSearch, search_texts
from m2v_core.exploration.index.stored import find_vectors
from m2v_core.model import StaticModel
from tests.core.exploration.index.oracle import check_hits, clustered, nearest, write_vectors
from tests.static_models import static_model

QUERIES = ["the quick fox", "sea shells", "naïve", "quick"]


def has_faiss() -> bool:
    return pytest.importorskip("faiss", reason="pip install 'm2v-studio[faiss]'") is not None


ENGINES = [("usearch", "float32"), ("usearch", "float16"), ("usearch", "int8"), ("faiss", "float32")]
ENGINES += [("faiss", "float16")]
# Tolerance of a cosine of rows in this precision.
ATOL = {"float32": 1e-5, "float16": 2e-3, "int8": 3e-2}


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("exact", [True, False])
def test_texts_of_many_files_with_skipped_rows(dtype, exact, model, model_folder, tmp_path):
    (tmp_path / "texts").mkdir()
    for number, texts in enumerate(
        [["the fox", None, "sea shells", "🦄"], [], [None, "quick", "", "the sea", "naïve"]]
    ):
        table = pyarrow.table({"n": pyarrow.array(range(len(texts)), "int64"), "text": pyarrow.array(texts, "string")})
        parquet.write_table(table, tmp_path / "texts" / f"{number}.parquet", row_group_size=2)
    folder = tmp_path / "vectors"
    encoded = encode_files(model_folder, tmp_path / "texts", folder, workers=1, dtype=dtype, on_error="skip")
    assert (encoded.n_texts, encoded.n_skipped) == (7, 2)
    if not exact:
        built = build_index(folder, dtype="float32")
        assert (built.n_rows, built.record.n_indexed, built.record.n_copies) == (
            7,
            5,
            0,
        )  # two rows have no known token
    search = VectorSearch(folder, exact=exact)
    assert search.is_exact is exact
    for k in (1, 3, 100):
        for query, hits in zip(QUERIES, search_texts(search, model, QUERIES, k), strict=True):
            check_hits(hits, model.encode([query])[0], folder, k)
    assert search_texts(search, model, ["🦄", "sea"], 1)[0] == []
    assert search_texts(search, model, ["quick"], 1)[0][0].columns == {"n": 1, "text": "quick"}


@pytest.mark.parametrize(("engine", "dtype"), ENGINES)
def test_an_index_finds_nearly_all_nearest_rows(engine, dtype, tmp_path):
    if engine == "faiss":
        has_faiss()
    n_rows = 20_000 if (engine, dtype) == ("usearch", "float16") else 4_000
    rows = clustered(n_rows, 32)
    rows[n_rows // 4 : n_rows // 3] = rows[n_rows // 4]  # like repeated texts
    rows[::50] = 0
    queries = clustered(200, 32, seed=1)
    queries[:100] = rows[1 :: n_rows // 100][:100]
    folder = write_vectors(tmp_path / "v", [rows[:700], rows[700:701], rows[701:]])
    build_index(folder, engine=engine, dtype=dtype)
    search = VectorSearch(folder)
    assert not search.is_exact
    found = search.search(queries, 10)
    _, expected = nearest(queries, rows, 10)
    # Of equally near rows, any are correct.
    true = [
        [cosine_of(rows, query, hit.columns["id"]) for hit in hits] for query, hits in zip(queries, found, strict=True)
    ]
    recall = np.mean([np.mean(np.array(one) >= least - 1e-6) for one, least in zip(true, expected[:, -1], strict=True)])
    assert recall >= (0.97 if dtype != "int8" else 0.9)
    for hits, one in zip(found, true, strict=True):
        assert len(hits) == 10 and len({hit.columns["id"] for hit in hits}) == 10
        np.testing.assert_allclose([hit.similarity for hit in hits], one, atol=ATOL[dtype])
        assert all(hit.text == f"text {hit.columns['id']}" for hit in hits)
        similarities = [hit.similarity for hit in hits]
        assert similarities == sorted(similarities, reverse=True)


def cosine_of(rows, query, number):
    row = rows[number].astype(np.float64)
    return row @ query / (np.linalg.norm(row) * np.linalg.norm(query.astype(np.float64)))


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    rows_in_group=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float16", "int8"]),
    seed=st.integers(0, 2**16),
    k=st.integers(1, 70),
    is_indexed=st.booleans(),
)
def test_every_row_is_found_at_its_position(sizes, rows_in_group, dtype, seed, k, is_indexed, tmp_path_factory):
    rng = np.random.default_rng(seed)
    blocks = [(rng.integers(-2, 3, (n, 4)) * rng.uniform(0.01, 100, (n, 1))).astype(np.float32) for n in sizes]
    folder = write_vectors(tmp_path_factory.mktemp("v"), blocks, dtype, rows_in_group)
    if is_indexed:
        build_index(folder, dtype="float32")
    search = VectorSearch(folder)
    for query in rng.standard_normal((3, 4)).astype(np.float32):
        check_hits(search.search(query[None], k)[0], query, folder, k, atol=1e-5)
    numbers = rng.permutation(sum(sizes)).tolist()
    assert [row["id"] for row in find_vectors(folder).rows(numbers)] == numbers


@pytest.mark.parametrize("k", [1, 10, 400, 2_000])
def test_equal_rows_are_all_found(k, tmp_path):
    distinct = clustered(200, 16)
    numbers = np.random.default_rng(0).integers(200, size=1_000)
    numbers[500:] = 7
    folder = write_vectors(tmp_path / "v", [distinct[numbers[:300]], distinct[numbers[300:]]])
    built = build_index(folder, dtype="float32")
    assert built.record.n_indexed == len(set(numbers.tolist()))
    assert built.record.n_indexed + built.record.n_copies == 1_000
    for query in distinct[5:9]:
        (hits,) = VectorSearch(folder).search(query[None], k)
        check_hits(hits, query, folder, k, atol=1e-5)


@pytest.mark.parametrize("engine", ["usearch", "faiss"])
def test_concurrent_searches(engine, tmp_path):
    if engine == "faiss":
        has_faiss()
    rows = clustered(2_000, 16)
    folder = write_vectors(tmp_path / "v", [rows])
    build_index(folder, engine=engine, dtype="float32")
    search = VectorSearch(folder)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: search.search(rows[number][None], 3)[0][0].columns["id"], range(300)))
    assert found == list(range(300))


def test_a_single_file(model, model_folder, tmp_path):
    (tmp_path / "texts.txt").write_text("the fox\nsea shells\nquick fox\n", encoding="utf-8")
    path = tmp_path / "vectors.parquet"
    encode_file(model, tmp_path / "texts.txt", path, dtype="int8")
    with pytest.raises(NotFoundError, match="is not recorded"):
        VectorSearch(path).load_model()
    model = StaticModel.from_pretrained(model_folder)
    encode_file(model, tmp_path / "texts.txt", path, dtype="int8", overwrite=True, model_name=str(model_folder))
    assert VectorSearch(path).load_model().tokens == model.tokens
    with pytest.raises(InputError, match="not the model|computed by"):
        VectorSearch(path).check_model(static_model("WordLevel"), "other")
    built = build_index(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "texts.txt",
        "vectors.parquet",
        "vectors.parquet.index.copies.npy",
        "vectors.parquet.index.json",
        "vectors.parquet.index.usearch",
    ]
    for named in (path, built.path, tmp_path / "vectors.parquet.index.json"):
        search = VectorSearch(named)
        (hits,) = search_texts(search, search.load_model(), ["sea"], 1)
        assert (hits[0].text, hits[0].row, search.is_exact) == ("sea shells", 1, False)
    assert build_index(path).n_added == 0  # the model is still recorded
    assert VectorSearch(path).load_model().dim == model.dim


def test_vectors_without_texts(model, model_folder, encoded_once, tmp_path):
    encode_files(model_folder, encoded_once / "texts", tmp_path / "v", workers=1, keep_columns=False)
    (hits,) = search_texts(VectorSearch(tmp_path / "v"), model, ["fox"], 2)
    assert [(hit.text, hit.columns) for hit in hits] == [(None, {})] * 2


def test_many_vectors_require_an_index(vectors, monkeypatch):
    monkeypatch.setattr(searching, "MAX_ROWS_WITHOUT_INDEX", 359)
    with pytest.raises(NotFoundError, match=f"has 360 vectors and no index. Build one: m2v index {vectors}"):
        VectorSearch(vectors)
    assert VectorSearch(vectors, exact=True).is_exact
    build_index(vectors)
    assert not VectorSearch(vectors).is_exact


@pytest.mark.parametrize("is_indexed", [True, False])
def test_invalid_queries(is_indexed, vectors):
    if is_indexed:
        build_index(vectors)
    search = VectorSearch(vectors)
    with pytest.raises(InputError, match="k is 0"):
        search.search(np.ones((1, 24), np.float32), 0)
    with pytest.raises(InputError, match="have the same width"):
        search.search(np.ones((1, 23), np.float32))
    assert search.search(np.zeros((2, 24), np.float32)) == [[], []]
    assert search.search(np.zeros((0, 24), np.float32)) == []


def test_only_zeros_and_no_vectors(tmp_path):
    for blocks in ([np.zeros((3, 4), np.float32)], [np.zeros((0, 4), np.float32)] * 2):
        folder = write_vectors(tmp_path / str(len(blocks)), blocks)
        assert VectorSearch(folder).search(np.ones((1, 4), np.float32)) == [[]]
        assert build_index(folder).record.n_indexed == 0
        assert VectorSearch(folder).search(np.ones((1, 4), np.float32)) == [[]]
