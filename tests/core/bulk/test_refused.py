"""Invalid inputs and outputs of encoding a file."""

from __future__ import annotations

import io
import threading
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from m2v_core.bulk import readers, run
from m2v_core.bulk.run import encode_file
from m2v_core.errors import Cancelled, InputError, MissingExtraError, NotFoundError, SaveError
from tests.core.bulk.files import ENDINGS, OUTPUTS, names, read_embeddings, write_texts
from tests.static_models import static_model

pytestmark = pytest.mark.usefixtures("small_blocks")

BAD_ROWS = [
    ("jsonl", '{"text": "the"}\n{"text": "fox"\n', "line 2 is not a JSON object"),
    ("jsonl", '{"text": "the"}\n["fox"]\n', "line 2 is not a JSON object"),
    ("jsonl", '{"text": "the"}\n{"body": "fox"}\n', "line 2 has no key 'text'; its keys are 'body'"),
    ("jsonl", '{"text": "the"}\n\n{"text": null}\n', "line 3 has no text under 'text', but 'null'"),
    ("jsonl", '{"text": "the"}\n{"text": 7}\n', "line 2 has no text under 'text', but '7'"),
    ("jsonl", '{"text": "the"}\n' + "[" * 100_000, "line 2 is not a JSON object"),
    ("csv", "text,n\nthe,1\nfox\n", "line 3 has 1 cells"),
    ("csv", "text,n\nthe,1\nfox,2,3\n", "line 3 has 3 cells"),
    ("csv", 'text,n\nthe,1\n"fox" x,2\n', "line 3 can't be read"),
    ("csv", 'text,n\nthe,1\n"fox,2\n', "line 3 can't be read"),
]


@pytest.mark.parametrize(("kind", "content", "message"), BAD_ROWS, ids=[message for _, _, message in BAD_ROWS])
def test_invalid_rows_fail_or_are_skipped(kind, content, message, model, tmp_path):
    path = tmp_path / f"texts{ENDINGS[kind]}"
    path.write_bytes(content.encode())
    with pytest.raises(InputError, match="--on-error skip") as raised:
        encode_file(model, path, tmp_path / "out.jsonl")
    assert f"{path}, {message}" in str(raised.value)
    assert len(str(raised.value)) < 400 + len(str(path))
    assert names(tmp_path) == [path.name]

    encoded = encode_file(model, path, tmp_path / "out.jsonl", on_error="skip")
    assert (encoded.n_texts, encoded.n_skipped) == (1, 1)
    assert message in encoded.problems[0]
    assert [row["text"] for row in read_embeddings(tmp_path / "out.jsonl")[1]] == ["the"]
    with pytest.raises(InputError, match="may be skipped"):
        encode_file(model, path, tmp_path / "out.npy", on_error="skip")


def test_null_texts_of_parquet(model, tmp_path):
    texts = ["the", None, "fox", None, "the", "fox", None]
    parquet.write_table(pyarrow.table({"text": texts}), tmp_path / "in.parquet", row_group_size=4)
    with pytest.raises(InputError, match="row 2, has null instead of a text"):
        encode_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet")
    encoded = encode_file(model, tmp_path / "in.parquet", tmp_path / "out.parquet", on_error="skip")
    assert (encoded.n_texts, encoded.n_skipped) == (4, 3)
    assert "row 7," in encoded.problems[2]
    embeddings, rows = read_embeddings(tmp_path / "out.parquet")
    assert [row["text"] for row in rows] == ["the", "fox", "the", "fox"]
    np.testing.assert_array_equal(embeddings.astype(np.float32), model.encode([row["text"] for row in rows]))


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("in.txt", "ok\n\u00e9t\u00e9".encode("utf-16")[:-1], {}, r"utf-16, but damaged in line 2 \(byte 12\)"),
        (
            "in.txt",
            "\u82f9\u679c\n".encode("gbk"),
            {},
            "not UTF-8 in line 1 .* could be .*gb18030.* Convert it to UTF-8",
        ),
        ("in.txt", b"ok\n" * 2000 + b"\xff\n", {}, "not UTF-8 in line 2,001"),
        ("in.jsonl", b'{"text": "\xff"}\n', {}, "not UTF-8 in line 1"),
        ("in.txt", b"ok\n", {"column": "body"}, "no column 'body'"),
        ("in.csv", b"id,body\n1,the\n", {}, "no column 'text', but 'id', 'body'"),
        ("in.csv", b"id,body\n1,the\n", {"column": "Body"}, "Its columns are 'id', 'body'"),
        ("in.csv", b"", {}, "is empty"),
        ("in.csv", b"text,text\na,b\n", {}, "duplicate column name"),
        ("in.csv", b"text,embedding\na,b\n", {}, "--embedding-column"),
        ("in.jsonl", b'{"text": "a", "embedding": [1]}\n', {}, "--embedding-column"),
        ("in.parquet", b"PAR1 broken PAR1", {}, "can't be read as Parquet"),
        ("in.json", b"[]", {}, "one object per line"),
        ("in.txt.gz", b"", {}, "Decompress"),
        ("in.txt", b"ok\n", {"input_format": "xml"}, "input_format must be one of"),
        ("in.txt", b"ok\n", {"dtype": "int4"}, "dtype must be one of"),
        ("in.txt", b"ok\n", {"on_error": "ignore"}, "on_error must be one of"),
        ("in.txt", b"ok\n", {"max_length": 0}, "max_length must be"),
    ],
)
@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_unusable_input(ending, name, content, arguments, message, model, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        encode_file(model, tmp_path / name, tmp_path / f"out{ending}", **arguments)
    assert names(tmp_path) == [name]


def test_columns_that_parquet_does_not_support(model, tmp_path):
    path = tmp_path / "in.jsonl"
    for second, message in (
        ('"a"', "don't fit in one column"),
        ("{}", "don't fit in one column"),
        (str(2**70), "don't fit in one column"),
    ):
        path.write_text(f'{{"text": "the", "n": 1}}\n{{"text": "fox", "n": {second}}}\n')
        with pytest.raises(InputError, match=message):
            encode_file(model, path, tmp_path / "out.parquet")
    path.write_text('{"text": "the", "n": {}}\n')
    with pytest.raises(InputError, match="empty objects"):
        encode_file(model, path, tmp_path / "out.parquet")
    assert encode_file(model, path, tmp_path / "out.parquet", keep_columns=False).n_texts == 1


@pytest.mark.parametrize("name", ["absent.txt", "absent.jsonl", "absent.csv", "absent.parquet"])
def test_missing_input(name, model, tmp_path):
    with pytest.raises(NotFoundError, match="Check the path"):
        encode_file(model, tmp_path / name, tmp_path / "out.npy")
    assert names(tmp_path) == []


def test_a_folder_is_not_an_input(model, tmp_path):
    for name in ("in.txt", "in.parquet"):
        (tmp_path / name).mkdir()
        with pytest.raises(InputError, match="can't be read"):
            encode_file(model, tmp_path / name, tmp_path / "out.npy")


def test_a_column_of_numbers_is_not_text(model, tmp_path):
    parquet.write_table(pyarrow.table({"n": [1], "body": ["the"], "more": ["fox"]}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="Columns of strings: 'body', 'more'"):
        encode_file(model, tmp_path / "in.parquet", tmp_path / "out.npy", column="n")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.txt", "not an output format. Choose one of .npy, .parquet"),
        ("out", "not an output format"),
        ("folder.npy", "is a folder"),
        ("old.npy", "overwrite"),
        ("texts.jsonl", "is the input"),
        ("texts.jsonl/out.npy", "Could not write"),
    ],
)
def test_an_invalid_output_is_not_changed(output, message, model, tmp_path):
    path = write_texts(tmp_path, "jsonl", ["the"])
    before = path.read_bytes()
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "old.npy").write_bytes(b"old")
    with pytest.raises(SaveError, match=message):
        encode_file(model, path, tmp_path / output)
    assert path.read_bytes() == before
    assert (tmp_path / "old.npy").read_bytes() == b"old"
    assert names(tmp_path) == ["folder.npy", "old.npy", "texts.jsonl"]


def test_failure_keeps_the_old_output(model, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "the"}\n' * 20 + "broken")
    (tmp_path / "out.jsonl").write_text("old")
    with pytest.raises(InputError):
        encode_file(model, tmp_path / "in.jsonl", tmp_path / "out.jsonl", overwrite=True)
    assert (tmp_path / "out.jsonl").read_text() == "old"
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


def test_a_full_disk_is_rejected_immediately(model, monkeypatch, tmp_path):
    path = write_texts(tmp_path, "text", ["the"] * 1000)
    monkeypatch.setattr(run, "_free_bytes", lambda path: 10_000)
    with pytest.raises(SaveError, match="needs about") as raised:
        encode_file(model, path, tmp_path / "out.npy")
    needed = int(str(raised.value).split("about ")[1].split()[0].replace(",", ""))
    assert 4 * model.dim * 1000 * 0.9 < needed < 4 * model.dim * 1000 * 1.5
    assert names(tmp_path) == [path.name]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("ending", OUTPUTS)
def test_full_disk(ending, model, monkeypatch, tmp_path):
    path = write_texts(tmp_path, "text", ["the"] * 1000)
    (tmp_path / f"out{ending}.part").symlink_to("/dev/full")
    with pytest.raises(SaveError, match="No space left"):
        encode_file(model, path, tmp_path / f"out{ending}")
    assert names(tmp_path) == [path.name]


def test_cancel_before_the_first_block_leaves_no_files(model, tmp_path):
    cancel = threading.Event()
    cancel.set()
    path = write_texts(tmp_path, "text", ["the"])
    with pytest.raises(Cancelled):
        encode_file(model, path, tmp_path / "out.npy", cancel=cancel)
    assert names(tmp_path) == [path.name]


@pytest.mark.parametrize("ending", OUTPUTS)
def test_a_file_that_changes_during_the_run_is_rejected(ending, model, tmp_path):
    path = write_texts(tmp_path, "text", ["the"] * 20)

    def change(event):
        path.write_text("fox\n" * 20)

    with pytest.raises(InputError, match="changed"):
        encode_file(model, path, tmp_path / f"out{ending}", progress=change)
    assert names(tmp_path) == [path.name]


def test_too_large_for_float16(tmp_path):
    model = static_model(normalize=False)
    model.token_embeddings[:] *= 1e6
    path = write_texts(tmp_path, "text", ["", "the"])
    with pytest.raises(InputError, match="text 2 is too large for float16"):
        encode_file(model, path, tmp_path / "out.npy", dtype="float16")
    assert encode_file(model, path, tmp_path / "out.npy").n_texts == 2


def test_parquet_without_pyarrow(model, monkeypatch, tmp_path):
    path = write_texts(tmp_path, "parquet", ["the"])
    texts = write_texts(tmp_path, "text", ["the"])
    for name in ("pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(readers.sys.modules, name, None)
    for arguments in ((path, tmp_path / "out.npy"), (texts, tmp_path / "out.parquet")):
        with pytest.raises(MissingExtraError, match=r"pip install 'm2v-studio\[bulk\]'"):
            encode_file(model, *arguments)
    assert encode_file(model, texts, tmp_path / "out.npy").n_texts == 1


def test_the_columns_of_jsonl_from_stdin_are_unknown(model, monkeypatch, tmp_path):
    monkeypatch.setattr(readers.sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"text": "the", "n": 1}\n')))
    with pytest.raises(InputError, match="stdin can't be read twice"):
        encode_file(model, "-", tmp_path / "out.parquet", input_format="jsonl")
    with pytest.raises(InputError, match="Pass a file"):
        encode_file(model, "-", tmp_path / "out.parquet", input_format="parquet")
    assert encode_file(model, "-", tmp_path / "out.parquet", input_format="jsonl", keep_columns=False).n_texts == 1
