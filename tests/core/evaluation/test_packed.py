"""Test data from untrusted archives and from single tables."""

from __future__ import annotations

import stat
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2v_core.errors import InputError, LimitError, M2VError, ModelFormatError, NotFoundError
from m2v_core.evaluation import packed
from m2v_core.evaluation.data import KIND_FOLDERS, LAYOUT, read_tasks
from m2v_core.evaluation.packed import TaskArchive, read_archive, read_test_data
from m2v_core.evaluation.run import evaluate
from m2v_core.evaluation.tasks import with_distinct_names
from tests.core.evaluation.sets import SETS, LetterEncoder, write_sets


@pytest.fixture
def pack(tmp_path):
    def pack(prefix="", more=(), **changes):
        path = tmp_path / "mine.zip"
        files = SETS | {key.replace("__", "/") + ".tsv": value for key, value in changes.items()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, text in [*((f"{prefix}{name}", text) for name, text in files.items()), *more]:
                archive.writestr(name, text)
        return path

    return pack


@pytest.mark.parametrize("prefix", ["", "eval/", "shared/eval/"])
def test_an_archive_equals_its_folder(pack, tmp_path, prefix):
    shadows = [(f"{prefix}.DS_Store", "x"), (f"__MACOSX/{prefix}sts/._tiny.tsv", "x"), (f"{prefix}sts/notes.txt", "x")]
    archive = read_archive(pack(prefix, shadows))
    assert archive.files == SETS and TaskArchive.from_line(archive.to_line()) == archive
    folder = read_tasks(write_sets(tmp_path / "folder"))
    expected = evaluate([LetterEncoder()], folder, resamples=0)
    found = evaluate([LetterEncoder()], archive.tasks(), resamples=0)
    assert [(score.task, score.score) for score in found.scores] == [
        (score.task, score.score) for score in expected.scores
    ]
    assert [task.name for task in read_test_data(tmp_path / "mine.zip", ["pearl"])] == [
        task.name for task in read_tasks(tmp_path / "folder", ["pearl"])
    ]


def test_every_kind_of_the_layout_is_read():
    assert {path.split("/NAME")[0] for path, _ in LAYOUT} == set(KIND_FOLDERS)
    assert {name.rpartition("/")[0].removesuffix("/kinds").removesuffix("/search") for name in SETS} == set(
        KIND_FOLDERS
    )


def test_errors_name_files_as_in_the_archive(pack):
    path = pack("eval/", sts__tiny="1\ta\tb\n2\ta\n")
    with pytest.raises(InputError, match=r"^sts/tiny\.tsv, line 2 has 2 fields; expected: score, text, text"):
        read_archive(path).tasks()
    assert read_archive(path).tasks(["words"])
    with pytest.raises(InputError, match=r"no task 'x' in mine\.zip\. Available: tiny"):
        read_archive(path).tasks(["x"])
    with pytest.raises(InputError, match=r"^sts/tiny\.tsv is binary"):
        read_archive(pack(sts__tiny=bytes(range(256))))
    with pytest.raises(InputError, match=r"File not found: classification/only/train\.tsv"):
        read_archive(pack(more=[("classification/only/test.tsv", "a\tb\n")])).tasks()


def link():
    info = zipfile.ZipInfo("sts/link.tsv")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../../evil.tsv", "points outside of it"),
        ("sts/../../evil.tsv", "points outside of it"),
        ("/etc/sts/evil.tsv", "points outside of it"),
        ("sts\\evil.tsv", "points outside of it"),
        (link(), "contains a link"),
        ("other/sts/mine.tsv", "several folders, the top one and other/"),
        ("sts/tiny.tsv/deeper.tsv", r"can't be extracted .* Recreate it"),
        (f"sts/{'n' * 400}.tsv", r"can't be extracted .* Recreate it"),
    ],
)
def test_archives_that_are_rejected(pack, tmp_path, name, message):
    before = {path.name for path in tmp_path.parent.iterdir()}
    with pytest.raises(InputError, match=message):
        read_archive(pack(more=[(name, "1\ta\tb\n")])).tasks()
    assert {path.name for path in tmp_path.parent.iterdir()} == before


def test_archives_without_tasks(tmp_path, pack):
    (tmp_path / "no.zip").write_text("score,a,b\n")
    with pytest.raises(InputError, match="not a ZIP archive"):
        read_test_data(tmp_path / "no.zip")
    with zipfile.ZipFile(tmp_path / "tables.zip", "w") as archive:
        archive.writestr("mine.csv", "1,a,b\n")
    with pytest.raises(InputError, match=r"tables\.zip contains no tasks\. Put .tsv files into sts/, .*single tables"):
        read_archive(tmp_path / "tables.zip")
    with pytest.raises(NotFoundError, match=r"File not found: gone\.zip"):
        read_archive(tmp_path / "gone.zip")
    content = pack().read_bytes()
    place = content.index(b"sts/tiny.tsv") + 30
    (tmp_path / "hurt.zip").write_bytes(content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :])
    with pytest.raises(ModelFormatError, match="damaged"):
        read_archive(tmp_path / "hurt.zip")


def test_a_zip_bomb_is_not_extracted(pack, monkeypatch):
    path = pack(more=[("sts/bomb.tsv", "1\ta\tb\n" * 500_000)])
    assert path.stat().st_size < 50_000
    monkeypatch.setattr(packed, "MAX_BYTES", 1_000_000)
    with pytest.raises(LimitError, match=r"has 3,0\d\d,\d\d\d bytes uncompressed, but at most 1,000,000 are allowed"):
        read_archive(path)


def test_an_archive_with_more_data_than_declared(tmp_path):
    """The directory declares 9 bytes, but there are two million."""
    text = b"1\ta\tb\n" * 300_000
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("sts/a.tsv", text)
    content = bytearray(path.read_bytes())
    size = struct.pack("<L", len(text))
    assert content.count(size) == 2  # before the data, and in the directory
    path.write_bytes(bytes(content).replace(size, struct.pack("<L", 9)))
    with pytest.raises(M2VError):
        read_archive(path)  # the checksum of the data differs from that in the directory
    checked = struct.pack("<L", zlib.crc32(text[:9]))
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", zlib.crc32(text)), checked))
    assert read_archive(path).files == {"sts/a.tsv": text[:9].decode()}


@given(st.binary(max_size=300))
def test_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "any.zip"
    path.write_bytes(content)
    with pytest.raises(M2VError):
        read_archive(path)


def test_a_single_table(tmp_path):
    (tmp_path / "mine.csv").write_text("score,a,b\n1,a,b\n2,c,d\n")
    (task,) = read_test_data(tmp_path / "mine.csv")
    assert task.name == "mine" and task.scores.tolist() == [1, 2]
    with pytest.raises(InputError, match="a single task, so there is nothing to choose"):
        read_test_data(tmp_path / "mine.csv", ["mine"])
    with pytest.raises(NotFoundError, match="Folder not found"):
        read_test_data(tmp_path / "gone.csv")


def test_tasks_with_the_same_name_get_distinct_names(tmp_path):
    write_sets(tmp_path, wordsim__tiny="1\tsea\tshore\n2\tlake\tboat\n3\tred\tpink\n")
    tasks = read_tasks(tmp_path, ["tiny"])
    assert [(task.name, task.group) for task in tasks] == [("tiny", "STS"), ("tiny (2)", "WordSim")]
    found = evaluate([LetterEncoder()], tasks, resamples=0)
    assert found.tasks == ("tiny", "tiny (2)") and not np.isnan([score.score for score in found.scores]).any()
    assert with_distinct_names([]) == ()
