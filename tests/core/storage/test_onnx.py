"""The ONNX folder, comparing onnxruntime with `StaticModel.encode`."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from m2v_core.errors import InputError, MissingExtraError, SaveError
from m2v_core.model import StaticModel
from m2v_core.storage import onnx_graph
from tests.static_models import LINES, TEXTS, TOKENIZERS, static_model


class Exported:
    """An exported folder, used as described in its README."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.session = onnxruntime.InferenceSession(folder / "onnx" / "model.onnx")

    def run(self, texts: list[str]) -> dict[str, np.ndarray]:
        encodings = self.tokenizer.encode_batch(texts)
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in encodings], dtype=np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in encodings], dtype=np.int64),
        }
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(None, inputs), strict=True)) | inputs


def exported(model: StaticModel, folder: Path) -> Exported:
    model.export(folder, "onnx")
    return Exported(folder)


def assert_same(model: StaticModel, folder: Path, texts: list[str]) -> None:
    # Equal ids except for the number of characters at which `encode` truncates.
    found = exported(model, folder).run([text[: model.max_characters] for text in texts])
    expected = model.encode(texts)
    assert found["embeddings"].dtype == found["last_hidden_state"].dtype == np.float32
    assert found["last_hidden_state"].shape == (*found["input_ids"].shape, model.dim)
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(found["embeddings"], expected, rtol=1e-5, atol=2e-6 * scale)
    np.testing.assert_array_equal(found["sentence_embedding"], found["embeddings"])
    assert not found["last_hidden_state"][found["attention_mask"] == 0].any()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("n_clusters", [None, 30])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_runtime_returns_the_same_as_encode(
    tmp_path: Path, kind: str, normalize: bool, n_clusters: int | None, dtype: str
) -> None:
    """The texts include padding, unknown tokens, only unknown tokens, and empty texts."""
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=normalize)
    assert str(model.token_embeddings.dtype) == dtype
    assert (model.token_mapping is None) == (n_clusters is None)
    assert_same(model, tmp_path / "out", list(TEXTS))


def test_saved_models_return_the_same(tmp_path: Path) -> None:
    """Saving moves the zero of the unknown token into the weights."""
    static_model(dtype="int8").save_pretrained(tmp_path / "model")
    assert_same(StaticModel.from_pretrained(tmp_path / "model"), tmp_path / "out", list(TEXTS))


@pytest.mark.parametrize("text", ["", "\U0001f984"])
def test_a_single_text_without_known_tokens(tmp_path: Path, text: str) -> None:
    found = exported(static_model(), tmp_path / "out").run([text])
    assert found["sentence_embedding"].shape == (1, 24)
    assert not found["sentence_embedding"].any()


def test_tokens_are_those_of_encode_as_sequence(tmp_path: Path) -> None:
    model = static_model(weights=np.linspace(0.5, 2, TOKENIZERS["WordPiece"]().get_vocab_size(), dtype=np.float32))
    found = exported(model, tmp_path / "out").run(["the quick fox"])["last_hidden_state"][0]
    np.testing.assert_allclose(found, model.encode_as_sequence("the quick fox"), rtol=1e-6)


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE"])
def test_programs_for_model2vec_exports_work(tmp_path: Path, kind: str) -> None:
    """Code of the card of model2vec 0.10's export, except for the path."""
    transformers = pytest.importorskip("transformers")
    model = static_model(kind)
    model.export(tmp_path / "out", "onnx")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    session = onnxruntime.InferenceSession(tmp_path / "out" / "onnx" / "model.onnx")
    encodings = tokenizer(list(LINES), padding=True, return_tensors="np")
    np.testing.assert_allclose(session.run(None, dict(encodings))[0], model.encode(LINES), atol=2e-6)


def test_long_texts_are_truncated(tmp_path: Path) -> None:
    model = static_model("WordLevel", max_length=3)
    assert_same(model, tmp_path / "out", ["the sea is never full", "the sea"])
    ids = exported(model, tmp_path / "out").run(["the sea is never full"])["input_ids"]
    assert ids.shape == (1, 3)


def test_no_limit(tmp_path: Path) -> None:
    model = static_model("WordLevel", max_length=None)
    text = "the sea is never full " * 300
    assert exported(model, tmp_path / "out").run([text])["input_ids"].shape == (1, 1500)


def test_special_tokens_of_the_tokenizer_are_not_added(tmp_path: Path) -> None:
    tokenizer = TOKENIZERS["WordPiece"]()
    tokenizer.post_processor = processors.TemplateProcessing(single="[PAD] $A", special_tokens=[("[PAD]", 0)])
    model = StaticModel(np.ones((tokenizer.get_vocab_size(), 2), np.float32), tokenizer)
    assert exported(model, tmp_path / "out").run(["the fox"])["input_ids"].shape == (1, 2)


def test_tokenizer_without_padding_token(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    model = StaticModel(np.array([[1, 0], [0, 1]], np.float32), tokenizer, normalize=False)
    assert_same(model, tmp_path / "out", ["a b", "a", ""])
    config = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert config["pad_token"] == "a"
    assert config["unk_token"] is None


def test_the_graph_is_valid_and_contains_the_table_unchanged(tmp_path: Path) -> None:
    model = static_model(dtype="float16")
    model.export(tmp_path / "out", "onnx")
    graph = onnx.load(tmp_path / "out" / "onnx" / "model.onnx")
    onnx.checker.check_model(graph, full_check=True)
    table = next(tensor for tensor in graph.graph.initializer if tensor.name == "table")
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(table), model.token_embeddings)
    assert [value.name for value in graph.graph.input] == ["input_ids", "attention_mask"]


def test_too_large_for_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = static_model()
    monkeypatch.setattr(onnx_graph, "_MAX_BYTES", model.token_embeddings.nbytes - 1)
    with pytest.raises(InputError, match="int8"):
        model.export(tmp_path / "out", "onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveError, match="file"):
        static_model().export(tmp_path / "file" / "out", "onnx")


def test_missing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_onnx(name: str, *arguments: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "onnx":
            raise ModuleNotFoundError(name)
        return real_import(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_onnx)
    with pytest.raises(MissingExtraError, match=r"m2v-studio\[export\]"):
        static_model().export(tmp_path / "out", "onnx")


def test_other_format(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'onnx' or 'word2vec'"):
        static_model().export(tmp_path / "out", "gguf")  # type: ignore[arg-type]
