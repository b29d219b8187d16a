"""Tables mapped from files: shared, read-only, and safe when the file changes while a model uses it."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from m2v_core.errors import ModelFormatError, SaveError
from m2v_core.model import StaticModel
from m2v_core.storage import atomic, local
from m2v_core.storage.mapped_file import MappedFile, mapped_file
from tests.static_models import TEXTS, TOKENIZERS, random_table, static_model

posix = pytest.mark.skipif(os.name != "posix", reason="Windows refuses to change mapped files")
DTYPES = ("float32", "float16", "int8")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    static_model().save_pretrained(folder)
    return folder


def encode_elsewhere(model: StaticModel) -> np.ndarray:
    return model.encode(list(TEXTS))


# Loading


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n_clusters", [None, 20])
def test_the_table_is_mapped_read_only(tmp_path, dtype, n_clusters):
    model = static_model(dtype=dtype, n_clusters=n_clusters, normalize=False)
    model.save_pretrained(tmp_path)
    loaded = StaticModel.from_pretrained(tmp_path)
    file = mapped_file(loaded.token_embeddings)
    assert file is not None
    assert file.path == tmp_path / "model.safetensors"
    assert loaded.token_embeddings.dtype == dtype
    assert loaded.token_embeddings.flags.aligned
    np.testing.assert_array_equal(loaded.token_embeddings, model.token_embeddings)
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(ValueError, match="read-only"):
        loaded.token_embeddings[0, 0] = 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_load_in_memory_copies(tmp_path, dtype):
    static_model(dtype=dtype).save_pretrained(tmp_path)
    mapped = StaticModel.from_pretrained(tmp_path)
    copied = StaticModel.from_pretrained(tmp_path, load_in_memory=True)
    assert mapped_file(copied.token_embeddings) is None
    np.testing.assert_array_equal(copied.token_embeddings, mapped.token_embeddings)
    np.testing.assert_array_equal(copied.encode(TEXTS), mapped.encode(TEXTS))


@pytest.mark.parametrize(
    ("tensors", "tokenizer", "config", "table"),
    [
        ("embeddings.safetensors", "tokenizer.json", "config.json", "embeddings"),
        ("model.safetensors", "tokenizer.json", "config_sentence_transformers.json", "embedding.weight"),
        (
            "0_StaticEmbedding/model.safetensors",
            "0_StaticEmbedding/tokenizer.json",
            "config_sentence_transformers.json",
            "embedding.weight",
        ),
    ],
)
def test_older_layouts_are_mapped(tmp_path, tensors, tokenizer, config, table):
    rows, words = random_table(TOKENIZERS["WordPiece"]().get_vocab_size()), TOKENIZERS["WordPiece"]()
    (tmp_path / tensors).parent.mkdir(exist_ok=True)
    save_file({table: rows}, tmp_path / tensors)
    words.save(str(tmp_path / tokenizer))
    (tmp_path / config).write_text("{}")
    model = StaticModel.from_pretrained(tmp_path)
    assert mapped_file(model.token_embeddings).path == tmp_path / tensors
    np.testing.assert_array_equal(model.token_embeddings, rows)


def test_a_float64_table_is_converted(saved):
    path = saved / "model.safetensors"
    table = load_file(path)["embeddings"]
    save_file({"embeddings": table.astype(np.float64)}, path)
    model = StaticModel.from_pretrained(saved)
    assert mapped_file(model.token_embeddings) is None
    np.testing.assert_array_equal(model.token_embeddings, table)


def test_an_unaligned_table_is_copied(saved):
    path = saved / "model.safetensors"
    content = path.read_bytes()
    n_header_bytes = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + n_header_bytes] + b" "
    path.write_bytes(len(header).to_bytes(8, "little") + header + content[8 + n_header_bytes :])
    model = StaticModel.from_pretrained(saved)
    assert mapped_file(model.token_embeddings) is None
    assert model.token_embeddings.flags.aligned
    np.testing.assert_array_equal(model.token_embeddings, load_file(path)["embeddings"])


def test_a_file_that_changes_while_it_is_opened_is_rejected(saved, monkeypatch):
    header = json.dumps({"embeddings": {"dtype": "F32", "shape": [9, 9], "data_offsets": [0, 324]}}).encode()
    header += b" " * (-len(header) % 8)
    for replacement in (b"cut", len(header).to_bytes(8, "little") + header, (2).to_bytes(8, "little") + b"{}"):

        def replaced(path, content=replacement):
            (saved / "new").write_bytes(content)
            (saved / "new").replace(path)
            return MappedFile(path)

        content = (saved / "model.safetensors").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(local, "MappedFile", replaced)
            with pytest.raises(ModelFormatError, match="changed while it was being opened"):
                StaticModel.from_pretrained(saved)
        (saved / "model.safetensors").write_bytes(content)


def test_views_keep_the_mapping_alive_without_the_model(saved):
    table = StaticModel.from_pretrained(saved).token_embeddings
    first_rows = table[:10].view(np.int32)[::2]
    expected = load_file(saved / "model.safetensors")["embeddings"][:10].view(np.int32)[::2]
    del table
    np.testing.assert_array_equal(first_rows, expected)
    assert mapped_file(first_rows) is not None
    assert mapped_file(first_rows.copy()) is None


# Files that change


@posix
@pytest.mark.parametrize("n_bytes", [0, 5_000])
def test_a_truncated_file_raises_instead_of_crashing(saved, n_bytes):
    model = StaticModel.from_pretrained(saved)
    model.encode(list(TEXTS))
    os.truncate(saved / "model.safetensors", n_bytes)
    for use in (
        lambda: model.encode("the fox"),
        lambda: model.encode(list(TEXTS)),
        lambda: list(model.encode_stream(TEXTS)),
        lambda: model.encode_as_sequence("the fox"),
        lambda: model.save_pretrained(saved.parent / "copy"),
        lambda: model.compressed(quantize_to="float16"),
    ):
        with pytest.raises(ModelFormatError, match=rf"model\.safetensors was truncated from .* to {n_bytes:,} bytes"):
            use()
    assert not (saved.parent / "copy").exists()


@posix
def test_a_model_in_memory_needs_no_file(saved):
    model = StaticModel.from_pretrained(saved, load_in_memory=True)
    expected = model.encode(TEXTS)
    os.truncate(saved / "model.safetensors", 0)
    np.testing.assert_array_equal(model.encode(TEXTS), expected)


@posix
def test_a_replaced_or_deleted_file_changes_nothing(saved):
    model = StaticModel.from_pretrained(saved)
    expected = model.encode(TEXTS)
    (saved / "new").write_bytes(b"short")
    (saved / "new").replace(saved / "model.safetensors")
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    (saved / "model.safetensors").unlink()
    np.testing.assert_array_equal(model.encode(TEXTS), expected)


@posix
def test_a_file_that_grows_is_accepted(saved):
    model = StaticModel.from_pretrained(saved)
    expected = model.encode(TEXTS)
    with (saved / "model.safetensors").open("ab") as file:
        file.write(b"more")
    np.testing.assert_array_equal(model.encode(TEXTS), expected)


@posix
def test_saving_onto_the_folder_it_was_loaded_from(saved):
    model = StaticModel.from_pretrained(saved)
    expected = model.encode(TEXTS)
    model.save_pretrained(saved)
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    np.testing.assert_array_equal(StaticModel.from_pretrained(saved).encode(TEXTS), expected)

    smaller = model.compressed(quantize_to="int8", dimensionality=4)
    smaller.save_pretrained(saved)
    np.testing.assert_array_equal(model.encode(TEXTS), expected)
    np.testing.assert_array_equal(StaticModel.from_pretrained(saved).encode(TEXTS), smaller.encode(TEXTS))


def test_windows_rejects_and_nothing_is_changed(saved, monkeypatch):
    before = {path.name: path.read_bytes() for path in saved.iterdir()}
    replace = Path.replace

    def refuses_tables(self, target):
        if Path(target).name == "model.safetensors":
            raise PermissionError(13, "Access is denied", str(target))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuses_tables)
    monkeypatch.setattr(atomic, "_IS_WINDOWS", True)
    with pytest.raises(SaveError, match="Nothing was changed.*load_in_memory=True"):
        static_model(normalize=False).save_pretrained(saved)
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


# Copies


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_holds_the_table(tmp_path, dtype, protocol):
    static_model(dtype=dtype).save_pretrained(tmp_path)
    model = StaticModel.from_pretrained(tmp_path)
    expected = model.encode(TEXTS)
    dumped = pickle.dumps(model, protocol)
    (tmp_path / "model.safetensors").unlink()
    loaded = pickle.loads(dumped)
    assert mapped_file(loaded.token_embeddings) is None
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected)


@posix
def test_a_deep_copy_needs_no_file(saved):
    model = StaticModel.from_pretrained(saved)
    expected = model.encode(TEXTS)
    copied = copy.deepcopy(model)
    assert mapped_file(copied.token_embeddings) is None
    os.truncate(saved / "model.safetensors", 0)
    np.testing.assert_array_equal(copied.encode(TEXTS), expected)


def test_other_processes_encode_with_a_mapped_model(saved):
    model = StaticModel.from_pretrained(saved)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        np.testing.assert_array_equal(pool.submit(encode_elsewhere, model).result(), model.encode(list(TEXTS)))


# Memory

TOUCH_EVERY_ROW = """
import re, sys
from pathlib import Path
from m2v_core.model import StaticModel

def private_bytes():
    return 1024 * int(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

StaticModel.from_pretrained(sys.argv[2]).encode("the fox")  # memory that only the first model allocates
before = private_bytes()
model = StaticModel.from_pretrained(sys.argv[1], load_in_memory=sys.argv[3] == "in memory")
model.token_embeddings.sum(dtype=float)
model.encode("the fox")
print(private_bytes() - before, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("where", ["mapped", "in memory"])
def test_two_processes_share_one_table(saved, tmp_path, where):
    tokenizer = TOKENIZERS["WordPiece"]()
    dim = 60_000_000 // 4 // tokenizer.get_vocab_size()
    table = np.ones((tokenizer.get_vocab_size(), dim), np.float32)
    StaticModel(table, tokenizer).save_pretrained(tmp_path / "large")
    command = [sys.executable, "-c", TOUCH_EVERY_ROW, tmp_path / "large", saved, where]
    # Both processes are alive while each is measured.
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    grown = [int(process.stdout.readline()) for process in processes]
    for process in processes:
        process.communicate()
    if where == "mapped":
        assert max(grown) < 0.25 * table.nbytes
    else:
        assert min(grown) > 0.9 * table.nbytes
