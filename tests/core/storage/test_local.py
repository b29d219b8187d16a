from __future__ import annotations

import json
import logging
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from m2v_core.errors import InputError, ModelFormatError, NotFoundError, SaveError
from m2v_core.model import StaticModel
from m2v_core.storage.atomic import replacing
from m2v_core.storage.card import rename_card
from tests.static_models import DIM, TEXTS, TOKENIZERS, static_model

FILES = {"README.md", "config.json", "model.safetensors", "modules.json", "tokenizer.json"}


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def edit_json(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    static_model(base_model_name="org/teacher", language=["en", "de"]).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("n_clusters", [None, 20])
@pytest.mark.parametrize("normalize", [True, False])
def test_saving_and_loading_preserve_the_model(tmp_path, kind, dtype, n_clusters, normalize):
    model = static_model(kind, dtype=dtype, n_clusters=n_clusters, normalize=normalize, max_length=9)
    model.save_pretrained(tmp_path / "model")
    loaded = StaticModel.from_pretrained(tmp_path / "model")
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
    assert loaded.tokens == model.tokens
    assert loaded.token_embeddings.dtype == dtype
    assert (loaded.weights is None) == (model.weights is None)
    assert (loaded.normalize, loaded.max_length) == (normalize, 9)
    loaded.save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again").keys() == contents(tmp_path / "model").keys()
    for name in ("model.safetensors", "tokenizer.json", "config.json", "modules.json"):
        assert (tmp_path / "again" / name).read_bytes() == (tmp_path / "model" / name).read_bytes()


def test_metadata_is_preserved(saved):
    model = StaticModel.from_pretrained(saved)
    assert (model.base_model_name, model.language) == ("org/teacher", ["en", "de"])


def test_unknown_keys_are_preserved(tmp_path):
    config = {"m2v": {"recipe": "calibrated"}, "apply_pca": 24, "sif_coefficient": 1e-4, "stranger": [1]}
    static_model(config=config).save_pretrained(tmp_path / "model")
    written = json.loads((tmp_path / "model/config.json").read_text())
    assert written.items() >= config.items()
    assert StaticModel.from_pretrained(tmp_path / "model").config == written


@pytest.mark.parametrize("max_length", [77, None])
def test_the_config_contains_what_readers_need(tmp_path, max_length):
    model = static_model(dtype="int8", n_clusters=20, max_length=max_length, base_model_name="org/teacher")
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config == {
        "tokenizer_name": "org/teacher",
        "seq_length": 1_000_000,
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": DIM,
        "normalize": True,
        "max_length": max_length,
        "embedding_dtype": "int8",
        "vocabulary_quantization": 20,
    }
    truncation = json.loads((tmp_path / "tokenizer.json").read_text())["truncation"]
    assert (truncation and truncation["max_length"]) == max_length


def test_outdated_values_are_not_written(tmp_path):
    config = {
        "hidden_dim": 999,
        "embedding_dtype": "float64",
        "vocabulary_quantization": 3,
        "normalize": False,
    }
    static_model(dtype="float16", config=config).save_pretrained(tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["hidden_dim"], written["embedding_dtype"], written["normalize"]) == (DIM, "float16", True)
    assert "vocabulary_quantization" not in written


@pytest.mark.parametrize("normalize", [True, False])
def test_modules_follow_normalize(tmp_path, normalize):
    static_model(normalize=normalize).save_pretrained(tmp_path)
    modules = json.loads((tmp_path / "modules.json").read_text())
    kinds = [module["type"].split(".")[-1] for module in modules]
    assert kinds == ["StaticEmbedding", "Normalize"][: 1 + normalize]


def test_tensors_have_types_that_all_readers_support(tmp_path):
    static_model(dtype="float16", n_clusters=20).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="numpy") as file:
        assert set(file.keys()) == {"embeddings", "mapping", "weights"}
        dtypes = {name: file.get_slice(name).get_dtype() for name in ("embeddings", "mapping", "weights")}
    assert dtypes == {"embeddings": "F16", "mapping": "I32", "weights": "F32"}


@pytest.mark.parametrize("kind", ["WordPiece", "Unigram", "WordLevel"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_the_unknown_row_is_zero_when_normalizing(tmp_path, kind, dtype):
    model = static_model(kind, dtype=dtype)
    assert model.token_embeddings[model.unk_token_id].any()
    model.save_pretrained(tmp_path / "unit")
    assert not load_file(tmp_path / "unit/model.safetensors")["embeddings"][model.unk_token_id].any()
    assert model.token_embeddings[model.unk_token_id].any()
    static_model(kind, dtype=dtype, normalize=False).save_pretrained(tmp_path / "plain")
    assert load_file(tmp_path / "plain/model.safetensors")["embeddings"][model.unk_token_id].any()


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("normalize", [True, False])
def test_weights_without_effect_are_not_written(tmp_path, kind, dtype, normalize):
    model = static_model(kind, dtype=dtype, normalize=normalize)
    ones = np.ones(len(model.tokens), np.float32)
    if model.unk_token_id is not None:
        ones[model.unk_token_id] = 0.0
    telling = np.linspace(0.5, 2, len(ones), dtype=np.float32)
    for weights in (None, ones, telling):
        weighted = StaticModel(model.token_embeddings, model.tokenizer, weights=weights, normalize=normalize)
        weighted.save_pretrained(tmp_path)
        assert ("weights" in load_file(tmp_path / "model.safetensors")) == (weights is telling)
        loaded = StaticModel.from_pretrained(tmp_path)
        np.testing.assert_array_equal(loaded.encode(TEXTS), weighted.encode(TEXTS))


@pytest.mark.parametrize("kind", ["WordPiece", "byte-level BPE"])
def test_weights_without_effect_of_earlier_versions_are_dropped(tmp_path, kind):
    model = static_model(kind, dtype="float16")
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    weights = np.ones(len(tensors["embeddings"]), np.float32)
    if model.unk_token_id is not None:
        weights[model.unk_token_id] = 0.0
    save_file({**tensors, "weights": weights}, tmp_path / "model.safetensors")
    loaded = StaticModel.from_pretrained(tmp_path)
    assert loaded.weights is None
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
    loaded.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == {"embeddings"}


def test_the_weight_of_an_unknown_token_with_a_shared_row_is_zero(tmp_path):
    model = static_model(n_clusters=20)
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(tensors["embeddings"], model.token_embeddings)
    assert np.flatnonzero(tensors["weights"] == 0).tolist() == [model.unk_token_id]


def test_a_mapping_without_weights_can_be_saved(tmp_path):
    quantized = static_model(n_clusters=20)
    model = StaticModel(quantized.token_embeddings, quantized.tokenizer, token_mapping=quantized.token_mapping)
    model.save_pretrained(tmp_path)
    loaded = StaticModel.from_pretrained(tmp_path)
    assert loaded.weights is None
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_loading_can_compress_and_override(saved):
    model = StaticModel.from_pretrained(
        saved,
        normalize=False,
        quantize_to="int8",
        dimensionality=6,
        vocabulary_quantization=10,
        max_length=None,
    )
    assert model.token_embeddings.shape == (10, 6)
    assert model.token_embeddings.dtype == np.int8
    assert (model.normalize, model.max_length) == (False, None)


@pytest.mark.parametrize("arguments", [{"quantize_to": "float64"}, {"dimensionality": 99}, {"max_length": 0}])
def test_invalid_arguments_raise_input_errors(saved, arguments):
    with pytest.raises(InputError):
        StaticModel.from_pretrained(saved, **arguments)


def test_subfolders(tmp_path):
    model = static_model()
    model.save_pretrained(tmp_path / "all", subfolder="small/int8")
    assert names(tmp_path / "all/small/int8") == FILES
    loaded = StaticModel.from_pretrained(tmp_path / "all", subfolder="small/int8")
    np.testing.assert_array_equal(loaded.encode(TEXTS), model.encode(TEXTS))


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    static_model().save_pretrained("model")
    assert StaticModel.from_pretrained("model").dim == DIM
    (tmp_path / "inside").mkdir()
    monkeypatch.chdir(tmp_path / "inside")
    static_model().save_pretrained(".")
    assert names(tmp_path / "inside") == FILES


# The card


def front_matter(folder: Path) -> dict:
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


def test_the_card_states_the_known_facts(tmp_path):
    model = static_model(base_model_name="org/teacher", language=["en"])
    model.save_pretrained(tmp_path, model_name="me/caf\u00e9", license="apache-2.0")
    assert front_matter(tmp_path) == {
        "base_model": "org/teacher",
        "language": ["en"],
        "library_name": "model2vec",
        "license": "apache-2.0",
        "model_name": "me/caf\u00e9",
        "tags": ["embeddings", "static-embeddings", "sentence-transformers", "m2v-studio"],
    }
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for package in ("m2v_core", "model2vec", "sentence_transformers"):
        assert f"from {package} import" in text
    assert text.count('"me/caf\u00e9"') == 3


def test_the_card_omits_unknown_facts(tmp_path):
    static_model().save_pretrained(tmp_path / "fox")
    assert front_matter(tmp_path / "fox").keys() == {"library_name", "model_name", "tags"}
    assert front_matter(tmp_path / "fox")["model_name"] == "fox"


@pytest.mark.parametrize(
    "card",
    [
        "",
        "# no front matter",
        "---\n- a list\n---\n",
        "---\nnever: closed\n",
        "---\n---\n",
        "---\nlanguage: 7\n---",
    ],
)
def test_an_invalid_card_does_not_prevent_loading(saved, card):
    (saved / "README.md").write_text(card)
    model = StaticModel.from_pretrained(saved)
    assert (model.base_model_name, model.language) == (None, None)


@pytest.mark.parametrize(
    ("name", "in_text"),
    [
        ("/home/me/my teacher", "my teacher"),
        ("C:\\Users\\me\\teacher", "teacher"),
        ("my-teacher", "my-teacher"),
        ("a/b/c", "c"),
        ("./org/teacher", "teacher"),
    ],
)
def test_a_name_that_is_not_a_hub_name_is_only_in_the_text(tmp_path, name, in_text):
    static_model(base_model_name=name).save_pretrained(tmp_path / "model")
    card = (tmp_path / "model" / "README.md").read_text()
    assert "base_model" not in yaml.safe_load(card.split("---\n")[1])
    assert f"Distilled from `{in_text}`" in card
    assert in_text == name or name not in card + (tmp_path / "model" / "config.json").read_text()


@pytest.mark.parametrize(
    ("stated", "listed"),
    [
        (["zh-CN", "zh_TW", "EN", "pt-br"], ["zh", "en", "pt"]),
        (["English", "xx", "und", "qaa", ""], None),
        (["multilingual", "yue", "iw"], ["multilingual", "yue", "he"]),
    ],
)
def test_languages_are_iso_639_codes(tmp_path, stated, listed):
    static_model(language=stated).save_pretrained(tmp_path)
    assert yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1]).get("language") == listed


@pytest.mark.parametrize(
    ("license", "expected"),
    [
        ("MIT", {"license": "mit"}),
        ("Apache 2.0", {"license": "apache-2.0"}),
        ("My Own License (v2)", {"license": "other", "license_name": "my-own-license-v2"}),
        ("  ", {}),
    ],
)
def test_a_license_is_a_hub_license_or_other_with_a_name(tmp_path, license, expected):
    static_model().save_pretrained(tmp_path, license=license)
    metadata = yaml.safe_load((tmp_path / "README.md").read_text().split("---\n")[1])
    assert {key: metadata[key] for key in ("license", "license_name") if key in metadata} == expected


def test_renaming_an_earlier_card_corrects_it():
    old = "---\nbase_model: my teacher\nlanguage: zh-CN\nmodel_name: a\n---\n# a\n"
    metadata = yaml.safe_load(rename_card(old, "me/b", "mit").split("---\n")[1])
    assert metadata == {"model_name": "me/b", "language": ["zh"], "license": "mit"}
    kept = "---\nbase_model: org/teacher\nlanguage: [en]\n---\n# a\n"
    metadata = yaml.safe_load(rename_card(kept, "me/b", None).split("---\n")[1])
    assert (metadata["base_model"], metadata["language"]) == ("org/teacher", ["en"])


@pytest.mark.parametrize("card", [b"---\nbase_model: [unclosed\n---\n", b"---\n\xff\xfe\n---\n"])
def test_a_damaged_card_is_logged_and_ignored(saved, card, caplog):
    (saved / "README.md").write_bytes(card)
    with caplog.at_level(logging.WARNING):
        assert StaticModel.from_pretrained(saved).base_model_name is None
    assert "README.md" in caplog.text


def test_card_fields_contain_one_or_several_names(saved):
    (saved / "README.md").write_text("---\nbase_model:\n- org/a\n- org/b\nlanguage: fr\n---\n")
    model = StaticModel.from_pretrained(saved)
    assert (model.base_model_name, model.language) == ("org/a", ["fr"])


# Damaged folders


def cut(path: Path, n_bytes: int) -> None:
    path.write_bytes(path.read_bytes()[:n_bytes])


@pytest.mark.parametrize("n_bytes", [0, 5, 60, 5_000])
def test_a_truncated_table_is_named_in_the_error(saved, n_bytes):
    cut(saved / "model.safetensors", n_bytes)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors is truncated or damaged"):
        StaticModel.from_pretrained(saved)


def test_garbage_for_a_table_is_named_in_the_error(saved):
    (saved / "model.safetensors").write_bytes(b"\xff" * 4096)
    with pytest.raises(ModelFormatError, match=r"model\.safetensors is truncated or damaged"):
        StaticModel.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "modules.json"])
@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b'"text"', b"7"])
def test_invalid_json_is_named_in_the_error(saved, name, damage):
    (saved / name).write_bytes(damage)
    with pytest.raises(ModelFormatError, match=name):
        StaticModel.from_pretrained(saved)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "None such"}}'])
def test_an_invalid_tokenizer_is_named_in_the_error(saved, damage):
    (saved / "tokenizer.json").write_bytes(damage)
    with pytest.raises(ModelFormatError, match=r"tokenizer\.json"):
        StaticModel.from_pretrained(saved)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named_in_the_error(saved, name):
    (saved / name).unlink()
    with pytest.raises(ModelFormatError, match=f"contains no static model: {name} missing"):
        StaticModel.from_pretrained(saved)


def test_optional_files_may_be_missing(saved):
    expected = StaticModel.from_pretrained(saved).encode(TEXTS)
    (saved / "README.md").unlink()
    (saved / "modules.json").unlink()
    np.testing.assert_array_equal(StaticModel.from_pretrained(saved).encode(TEXTS), expected)


def test_a_missing_and_an_empty_folder(tmp_path):
    with pytest.raises(NotFoundError, match="nowhere"):
        StaticModel.from_pretrained(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotFoundError, match="file"):
        StaticModel.from_pretrained(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelFormatError, match="contains no static model"):
        StaticModel.from_pretrained(tmp_path / "empty")


@pytest.mark.parametrize("key_value", [{"max_length": 0}, {"max_length": "512"}, {"max_length": True}])
def test_an_invalid_limit_is_named_in_the_error(saved, key_value):
    edit_json(saved / "config.json", **key_value)
    with pytest.raises(ModelFormatError, match=r"config\.json: max_length is"):
        StaticModel.from_pretrained(saved)


def test_normalize_must_be_true_or_false(saved):
    edit_json(saved / "config.json", normalize="false")
    with pytest.raises(ModelFormatError, match=r"config\.json: normalize is 'false'"):
        StaticModel.from_pretrained(saved)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: {"embeddings": tensors["embeddings"][:-1]}, "tokens .* rows"),
        (lambda tensors: {"embeddings": tensors["embeddings"] * np.nan}, "NaN"),
        (lambda tensors: {"embeddings": tensors["embeddings"].ravel()}, "shape"),
        (lambda tensors: {"embeddings": tensors["embeddings"].astype(np.int16)}, "I16"),
        (lambda tensors: {**tensors, "weights": np.ones(3, np.float32)}, "weights"),
        (lambda tensors: {**tensors, "mapping": np.full(len(tensors["embeddings"]), 9_999)}, "9999"),
        (lambda tensors: {**tensors, "mapping": tensors["embeddings"][:, 0]}, "integers"),
        (lambda tensors: {"bert.embeddings": tensors["embeddings"]}, "distil"),
        (lambda tensors: {}, "distil"),
    ],
)
def test_tensors_that_do_not_fit_are_named_in_the_error(saved, change, said):
    tensors = change(load_file(saved / "model.safetensors"))
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, saved / "model.safetensors")
    with pytest.raises(ModelFormatError, match=said) as caught:
        StaticModel.from_pretrained(saved)
    assert str(saved) in str(caught.value)


def test_a_teacher_folder_is_recognized(saved):
    modules = [
        {"type": "sentence_transformers.models.Transformer"},
        {"type": "sentence_transformers.models.Pooling"},
    ]
    (saved / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelFormatError, match=r"Transformer, Pooling.*distilled first"):
        StaticModel.from_pretrained(saved)


# Saving that fails

SAVE_WITH_LITTLE_ROOM = """
import resource, sys
from m2v_core.errors import SaveError
from m2v_core.model import StaticModel
from m2v_core.storage.atomic import replacing
from m2v_core.storage.card import rename_card
model = StaticModel.from_pretrained(sys.argv[1], normalize=False)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), int(sys.argv[3])))
try:
    model.save_pretrained(sys.argv[2])
except SaveError as error:
    sys.exit(str(error))
"""


def save_with_little_room(source: Path, target: Path, room_bytes: int) -> str:
    command = [sys.executable, "-c", SAVE_WITH_LITTLE_ROOM, source, target, str(room_bytes)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is POSIX only")
@pytest.mark.parametrize("room_bytes", [100, 7_000])
def test_a_full_disk_leaves_the_earlier_model(saved, tmp_path, room_bytes):
    before = contents(saved)
    message = save_with_little_room(saved, saved, room_bytes)
    assert f"Could not write {saved}" in message
    needed, free = (
        int(number.replace(",", "")) for number in re.search(r"needs ([\d,]+) .*and ([\d,]+)", message).groups()
    )
    assert needed >= len(before["model.safetensors"]) * 0.9
    assert 0 < free <= shutil.disk_usage(saved).total
    assert names(saved) == FILES
    assert contents(saved) == before
    assert StaticModel.from_pretrained(saved).normalize


@pytest.mark.skipif(sys.platform == "win32", reason="the resource module is POSIX only")
def test_a_full_disk_leaves_no_new_folder(saved, tmp_path):
    message = save_with_little_room(saved, tmp_path / "deep/down/model", 5_000)
    assert "Could not write" in message
    assert names(tmp_path) == {"model", *(f"model/{name}" for name in FILES)}


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_folder_with_the_name_of_a_file_is_detected_before_anything_is_replaced(saved, name):
    (saved / name).unlink()
    (saved / name / "inside").mkdir(parents=True)
    before = contents(saved)
    with pytest.raises(SaveError, match=name):
        static_model(normalize=False).save_pretrained(saved)
    assert contents(saved) == before
    assert names(saved) == {*FILES, f"{name}/inside"}


@pytest.mark.parametrize("target", ["file", "file/model"])
def test_a_file_with_the_name_of_the_folder_is_named_in_the_error(tmp_path, target):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SaveError, match=f"Could not write .*{target}"):
        static_model().save_pretrained(tmp_path / target)
    assert names(tmp_path) == {"file"}
    assert (tmp_path / "file").read_text() == "mine"


def test_a_config_that_is_not_json_is_rejected_before_writing(tmp_path):
    for value in (object(), float("nan")):
        with pytest.raises(InputError, match="config"):
            static_model(config={"mine": value}).save_pretrained(tmp_path / "model")
    assert names(tmp_path) == set()


def test_saving_over_a_model_replaces_it_and_keeps_other_files(saved):
    (saved / "notes.txt").write_text("mine")
    (saved / "onnx").mkdir()
    model = static_model("Unigram", normalize=False)
    model.save_pretrained(saved)
    assert names(saved) == {*FILES, "notes.txt", "onnx"}
    np.testing.assert_array_equal(StaticModel.from_pretrained(saved).encode(TEXTS), model.encode(TEXTS))


def test_permissions_are_those_of_any_new_folder(tmp_path):
    (tmp_path / "other").mkdir()
    static_model().save_pretrained(tmp_path / "model")
    assert (tmp_path / "model").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_new_model_appears_complete(tmp_path):
    targets = [tmp_path / str(i) for i in range(5)]

    def first_sight(target: Path) -> set[str]:
        while not target.exists():
            time.sleep(1e-5)
        return names(target)

    with ThreadPoolExecutor(1) as pool:
        sights = pool.map(first_sight, targets)
        for target in targets:
            static_model().save_pretrained(target)
        assert list(sights) == [FILES] * len(targets)


def test_a_folder_that_appears_in_the_meantime_is_written_into(tmp_path):
    target = tmp_path / "model"
    with replacing(target, n_bytes=3) as staging:
        (staging / "deep").mkdir()
        (staging / "deep/file").write_text("new")
        (target / "deep").mkdir(parents=True)
        (target / "deep/file").write_text("old")
        (target / "other").write_text("theirs")
    assert names(tmp_path) == {"model", "model/deep", "model/deep/file", "model/other"}
    assert (target / "deep/file").read_text() == "new"


def test_an_interruption_leaves_no_files(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "deep/model", n_bytes=3) as staging:
        (staging / "file").write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == set()


def test_a_byte_order_mark_is_ignored(saved):
    for name in ("config.json", "README.md", "modules.json"):
        (saved / name).write_bytes(b"\xef\xbb\xbf" + (saved / name).read_bytes())
    assert StaticModel.from_pretrained(saved).base_model_name == "org/teacher"
