"""The library: what enters it, who sees it, and what is refused."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from m2v_core.errors import InputError, LimitError, M2VError, ModelFormatError, NotFoundError
from m2v_core.storage import intake
from m2v_core.storage.export import write_zip
from m2v_core.storage.mapped_file import mapped_file
from m2v_core.studio.jobs import JobSpec, JobStore
from m2v_core.studio.jobs.kinds import Kind
from m2v_core.studio.library import Library, ModelRecord
from tests.static_models import TEXTS, static_model

ADA, BOB = "ada", "bob"
NOBODYS = "0" * 32
ROOT = Path(__file__).resolve().parents[4]


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path / "library")


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    static_model(base_model_name="someone/teacher").save_pretrained(folder)
    return folder


@pytest.fixture
def pack(model_folder: Path, tmp_path: Path) -> Callable[..., Path]:
    """Packs the small model, with further entries before it."""

    def pack(*entries: tuple[str | zipfile.ZipInfo, bytes], prefix: str = "small/", leave_out: str = "") -> Path:
        path = tmp_path / "upload.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in entries:
                archive.writestr(name, content)
            for file in sorted(model_folder.iterdir()):
                if file.is_file() and file.name != leave_out:
                    archive.write(file, prefix + file.name)
        return path

    return pack


def files_under(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def assert_nothing_was_kept(library: Library, root: Path) -> None:
    assert library.list_models(ADA) == []
    assert {name.rpartition("/")[2] for name in files_under(root / "library")} <= {".lock"}


# What enters


@pytest.mark.parametrize("prefix", ["", "small/", "a/b/"])
def test_a_zip_enters(library: Library, pack: Callable[..., Path], prefix: str) -> None:
    record = library.add_from_zip(pack(prefix=prefix), ADA)
    model = static_model()
    assert (record.name, record.source, record.origin) == ("upload", "zip", "upload.zip")
    assert (record.teacher, record.dim, record.n_tokens) == ("someone/teacher", model.dim, len(model.tokens))
    assert (record.n_rows, record.dtype) == (len(model.token_embeddings), "float32")
    np.testing.assert_array_equal(library.load(record.id, ADA).encode(TEXTS), model.encode(TEXTS))
    assert record.n_bytes == sum(f.stat().st_size for f in library.folder(record.id, ADA).rglob("*") if f.is_file())


def test_what_write_zip_packs_comes_back(library: Library, model_folder: Path, tmp_path: Path) -> None:
    record = library.add_from_zip(write_zip(model_folder, tmp_path / "mine.zip"), ADA)
    assert record.name == "mine"
    assert files_under(library.folder(record.id, ADA)) == files_under(model_folder)


def test_a_folder_and_its_files_enter_as_copies(library: Library, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "own").symlink_to(model_folder)  # the Hub's cache consists of links
    by_folder = library.add_from_folder(tmp_path / "own", ADA, name="by folder")
    by_files = library.add_from_files({path.name: path for path in model_folder.iterdir()}, ADA)
    for record in (by_folder, by_files):
        copied = library.folder(record.id, ADA) / "model.safetensors"
        assert copied.is_file() and not copied.is_symlink()
    assert [record.name for record in library.list_models(ADA)] == ["model", "by folder"]


def test_a_repository_of_the_hub_enters(library: Library, session_hub, model_folder: Path) -> None:
    session_hub.add("someone/for-the-library", model_folder)
    record = library.add_from_hub("someone/for-the-library", ADA)
    assert (record.name, record.source, record.origin) == ("for-the-library", "hub", "someone/for-the-library")
    assert not (library.folder(record.id, ADA) / "config.json").is_symlink()


def test_a_repository_too_large_is_refused_before_it_is_fetched(
    tmp_path: Path, session_hub, model_folder: Path
) -> None:
    session_hub.add("someone/too-large", model_folder)
    with pytest.raises(LimitError, match="someone/too-large has"):
        Library(tmp_path / "library", max_model_bytes=1000).add_from_hub("someone/too-large", ADA)
    assert not [path for path in session_hub.paths() if "/resolve/" in path]


@pytest.mark.parametrize("name", ["../somewhere", "a/b/c", ""])
def test_no_path_passes_for_a_repository(library: Library, name: str) -> None:
    with pytest.raises(NotFoundError):
        library.add_from_hub(name, ADA)


def test_names_are_kept_apart(library: Library, model_folder: Path) -> None:
    names = [library.add_from_folder(model_folder, ADA).name for _ in range(3)]
    assert names == ["small", "small (2)", "small (3)"]
    assert library.add_from_folder(model_folder, BOB).name == "small"


# Finished distillations


def make_model(order):
    static_model().save_pretrained(order.staging)
    return {"dim": 24, "n_tokens": 134, "n_bytes": 1}


@pytest.fixture
def jobs(tmp_path: Path):
    kinds = {
        "distill": Kind("tests.core.studio.library.test_library:make_model"),
        "other": Kind("tests.core.studio.library.test_library:make_model"),
    }
    with JobStore(tmp_path / "jobs", kinds=kinds) as store:
        yield store


def test_a_finished_distillation_enters_by_itself_and_outlives_its_job(jobs: JobStore, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", jobs=jobs)
    assert library.list_models(ADA) == []
    parameters = {"model_name": "someone/teacher", "pca_dims": 24}
    job_id = jobs.submit(JobSpec("distill", parameters, title="m2v-teacher"), ADA)
    other = jobs.submit(JobSpec("other"), ADA)
    assert jobs.wait(job_id, ADA, 120).state == "done"
    assert library.get(job_id, ADA).name == "m2v-teacher"  # by its job's id, before anyone has listed
    assert jobs.wait(other, ADA, 120).state == "done"
    [record] = library.list_models(ADA)
    assert (record.id, record.teacher, record.recipe) == (job_id, "someone/teacher", {"pca_dims": 24})
    assert library.add_from_job(job_id, ADA) == record
    with pytest.raises(NotFoundError, match="produced no model"):
        library.add_from_job(other, ADA)
    with pytest.raises(NotFoundError):
        library.add_from_job(job_id, BOB)
    assert library.list_models(BOB) == []

    jobs.clean(keep_seconds=0)
    assert jobs.list_jobs(ADA) == []
    assert library.list_models(ADA) == [record]
    library.load(job_id, ADA)


def test_a_deleted_model_does_not_come_back_with_its_job(jobs: JobStore, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", jobs=jobs)
    job_id = jobs.submit(JobSpec("distill"), ADA)
    jobs.wait(job_id, ADA, 120)
    assert len(library.list_models(ADA)) == 1
    library.delete(job_id, ADA)
    assert library.list_models(ADA) == []
    assert jobs.list_jobs(ADA) == []


def test_a_full_library_says_what_it_can_not_take_in(jobs: JobStore, model_folder: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", jobs=jobs, max_models_per_owner=1)
    first = library.add_from_folder(model_folder, ADA)
    job_id = jobs.submit(JobSpec("distill", title="m2v-teacher"), ADA)
    jobs.wait(job_id, ADA, 120)
    assert library.list_models(ADA) == [first]
    [refused] = library.contents(ADA).refused
    assert (refused.id, refused.name, refused.is_for_room) == (job_id, "m2v-teacher", True)
    assert "limit here is 1" in refused.reason
    assert library.contents(BOB).refused == []
    library.delete(first.id, ADA)
    assert library.contents(ADA).refused == []
    assert [record.id for record in library.list_models(ADA)] == [job_id]


# What a ZIP may not do


@pytest.mark.parametrize(
    "name",
    ["../config.json", "small/../../evil", "/etc/passwd", "C:/evil", "..\\evil", "small/..", "small/evil\0.json"],
)
def test_a_path_out_of_the_archive_is_refused(
    library: Library, pack: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    info = zipfile.ZipInfo("placeholder")
    info.filename = info.orig_filename = name
    with pytest.raises(InputError, match="points outside of it"):
        library.add_from_zip(pack((info, b"evil")), ADA)
    assert_nothing_was_kept(library, tmp_path)
    assert not list(tmp_path.rglob("evil*"))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_a_link_or_a_device_is_refused(library: Library, pack: Callable[..., Path], tmp_path: Path, kind: int) -> None:
    info = zipfile.ZipInfo("small/config.json")
    info.create_system = 3
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(InputError, match="contains a link"):
        library.add_from_zip(pack((info, b"/etc/passwd"), leave_out="config.json"), ADA)
    assert_nothing_was_kept(library, tmp_path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_that_stands_there_twice_is_refused(library: Library, pack: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="twice"):
        library.add_from_zip(pack(("small/config.json", b"{}")), ADA)


def test_an_encrypted_archive_is_refused(library: Library, pack: Callable[..., Path]) -> None:
    path = pack()
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1  # the flag of the first entry
    path.write_bytes(content)
    with pytest.raises(InputError, match="encrypted"):
        library.add_from_zip(path, ADA)


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, pack: Callable[..., Path]) -> None:
    library = Library(tmp_path / "library", max_model_bytes=10**6)
    path = pack(("small/model.safetensors", bytes(10**8)), leave_out="model.safetensors")
    assert path.stat().st_size < 10**6
    with pytest.raises(LimitError, match="1,000,000 are allowed"):
        library.add_from_zip(path, ADA)
    assert_nothing_was_kept(library, tmp_path)


def test_a_bomb_that_lies_about_its_size_is_cut(library: Library, pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack(("small/model.safetensors", bytes(10**8)), leave_out="model.safetensors")
    content = path.read_bytes().replace((10**8).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    path.write_bytes(content)
    with pytest.raises(M2VError):
        library.add_from_zip(path, ADA)
    assert_nothing_was_kept(library, tmp_path)


def test_too_many_entries_are_refused(library: Library, pack: Callable[..., Path]) -> None:
    with pytest.raises(LimitError, match="2,000 entries"):
        library.add_from_zip(pack(*((f"small/{number}", b"") for number in range(2001))), ADA)


def test_a_huge_directory_is_refused_before_it_is_read(
    library: Library, pack: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack()
    content = bytearray(path.read_bytes())
    end = content.rindex(b"PK\x05\x06")
    content[end + 12 : end + 16] = (10**8).to_bytes(4, "little")
    path.write_bytes(content)
    monkeypatch.setattr(intake.zipfile, "ZipFile", lambda *_: pytest.fail("was opened"))
    with pytest.raises(LimitError, match="2,000 entries"):
        library.add_from_zip(path, ADA)


def test_only_files_of_a_model_are_written(library: Library, pack: Callable[..., Path]) -> None:
    extras = [("small/pytorch_model.bin", b"x"), ("small/run.py", b"x"), ("small/.env", b"x"), ("README.md", b"x")]
    record = library.add_from_zip(pack(*extras), ADA)
    kept = files_under(library.folder(record.id, ADA))
    assert kept == {"README.md", "config.json", "model.safetensors", "modules.json", "tokenizer.json"}


def test_weights_as_a_pickle_are_refused(library: Library, pack: Callable[..., Path]) -> None:
    with pytest.raises(ModelFormatError, match="model.safetensors missing.*only read from safetensors"):
        library.add_from_zip(pack(("small/model.bin", b"x"), leave_out="model.safetensors"), ADA)


def test_a_configuration_of_megabytes_is_refused(library: Library, pack: Callable[..., Path]) -> None:
    big = b'{"x": "' + b"x" * 3 * 2**20 + b'"}'
    with pytest.raises(LimitError, match=r"config\.json"):
        library.add_from_zip(pack(("small/config.json", big), leave_out="config.json"), ADA)


def test_two_models_in_one_archive_are_refused(library: Library, pack: Callable[..., Path], model_folder: Path) -> None:
    second = [(f"second/{path.name}", path.read_bytes()) for path in model_folder.iterdir() if path.is_file()]
    with pytest.raises(InputError, match="contains 2 models"):
        library.add_from_zip(pack(*second), ADA)


@pytest.mark.parametrize("content", [b"", b"no archive at all", b"PK\x05\x06"])
def test_what_is_no_archive_is_refused(library: Library, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.zip").write_bytes(content)
    with pytest.raises(InputError, match="not a ZIP archive"):
        library.add_from_zip(tmp_path / "model.zip", ADA)


def test_a_damaged_archive_is_refused(library: Library, pack: Callable[..., Path], tmp_path: Path) -> None:
    path = pack()
    content = bytearray(path.read_bytes())
    content[200:260] = bytes(60)
    path.write_bytes(content)
    with pytest.raises(ModelFormatError, match="damaged"):
        library.add_from_zip(path, ADA)
    assert_nothing_was_kept(library, tmp_path)


def test_a_model_that_can_not_be_opened_does_not_enter(
    library: Library, pack: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ModelFormatError):
        library.add_from_zip(pack(("small/tokenizer.json", b"{}"), leave_out="tokenizer.json"), ADA)
    assert_nothing_was_kept(library, tmp_path)


# Owners


def test_another_owners_model_is_the_same_as_none(library: Library, model_folder: Path) -> None:
    record = library.add_from_folder(model_folder, ADA)
    assert library.list_models(BOB) == []
    assert library.picked(BOB) is None
    calls = [library.get, library.folder, library.load, library.delete, library.pick]
    calls.append(lambda model_id, owner: library.rename(model_id, "mine", owner))
    for call in calls:
        refusals = []
        for model_id in (record.id, NOBODYS, "../" + record.id, ""):
            with pytest.raises(NotFoundError) as refusal:
                call(model_id, BOB)
            refusals.append(str(refusal.value))
        assert len(set(refusals)) == 1
    assert library.get(record.id, ADA) == record


def test_the_owner_is_not_to_be_read_on_disk(library: Library, model_folder: Path, tmp_path: Path) -> None:
    library.add_from_folder(model_folder, "a-secret-owner")
    for path in (tmp_path / "library").rglob("*"):
        assert "a-secret-owner" not in path.name
        assert path.is_dir() or b"a-secret-owner" not in path.read_bytes()
    assert stat.S_IMODE((tmp_path / "library").stat().st_mode) == 0o700


def test_an_owner_is_needed(library: Library) -> None:
    with pytest.raises(InputError, match="owner"):
        library.list_models("")


# Keeping, renaming, deleting


def test_rename(library: Library, model_folder: Path) -> None:
    first, second = library.add_from_folder(model_folder, ADA), library.add_from_folder(model_folder, ADA)
    assert library.rename(first.id, "  my\n model ", ADA).name == "my model"
    assert library.get(first.id, ADA).name == "my model"
    assert library.rename(first.id, "my model", ADA).name == "my model"
    for name, says in (
        ("my model", "Another model"),
        (" ", "empty"),
        ("x" * 97, "97 characters"),
        ("a\u202eb", "invisible"),
    ):
        with pytest.raises(InputError, match=says):
            library.rename(second.id, name, ADA)


def test_delete(library: Library, model_folder: Path, tmp_path: Path) -> None:
    record = library.add_from_folder(model_folder, ADA)
    library.load(record.id, ADA)
    library.delete(record.id, ADA)
    with pytest.raises(NotFoundError):
        library.load(record.id, ADA)
    assert_nothing_was_kept(library, tmp_path)


def test_the_picked_model_is_the_newest_until_one_is_picked(library: Library, model_folder: Path) -> None:
    first, second = (library.add_from_folder(model_folder, ADA) for _ in range(2))
    assert library.picked(ADA) == second
    library.pick(first.id, ADA)
    assert library.picked(ADA) == first
    library.delete(first.id, ADA)
    assert library.picked(ADA) == second


@pytest.mark.parametrize("in_memory", [True, False])
def test_windows_loads_models_into_memory(library, pack, tmp_path, monkeypatch, in_memory):
    monkeypatch.setattr("m2v_core.studio.library.library._LOAD_IN_MEMORY", in_memory)
    record = library.add_from_zip(pack(), ADA)
    reopened = Library(tmp_path / "library")
    for opened in (library, reopened):
        table = opened.load(record.id, ADA).token_embeddings
        assert (mapped_file(table) is None) == in_memory


def test_the_models_used_last_stay_in_memory(model_folder: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", max_loaded=2)
    first, second, third = (library.add_from_folder(model_folder, ADA).id for _ in range(3))
    kept = library.load(second, ADA)
    assert library.load(second, ADA) is kept
    library.load(first, ADA)
    assert library.load(second, ADA) is kept
    library.load(third, ADA)
    library.load(first, ADA)
    assert library.load(second, ADA) is not kept


def test_limits_are_named(model_folder: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "a", max_models_per_owner=1)
    library.add_from_folder(model_folder, ADA)
    with pytest.raises(LimitError, match="max_models_per_owner"):
        library.add_from_folder(model_folder, ADA)
    library.add_from_folder(model_folder, BOB)
    with pytest.raises(LimitError, match="max_bytes"):
        Library(tmp_path / "b", max_bytes=100).add_from_folder(model_folder, ADA)


def test_models_that_nobody_opens_are_removed(model_folder: Path, tmp_path: Path) -> None:
    library = Library(tmp_path / "library", keep_seconds=1000)
    old, used = (library.add_from_folder(model_folder, ADA) for _ in range(2))
    for record in (old, used):
        os.utime(library.folder(record.id, ADA).parent / "record.json", (0, 0))
    Library(tmp_path / "library").load(used.id, ADA)
    assert library.clean() == [old.id]
    assert library.list_models(ADA) == [used]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"id": "other"}', None])
def test_a_damaged_record_is_made_anew(library: Library, model_folder: Path, content: str | None) -> None:
    whole, damaged = (library.add_from_folder(model_folder, ADA) for _ in range(2))
    file = library.folder(damaged.id, ADA).parent / "record.json"
    file.unlink() if content is None else file.write_text(content)
    found = {record.id: record for record in library.list_models(ADA)}
    assert found.keys() == {whole.id, damaged.id}
    assert found[damaged.id].name == f"Recovered {damaged.id[:6]}"
    assert (found[damaged.id].dim, found[damaged.id].n_bytes) == (damaged.dim, damaged.n_bytes)
    assert library.get(damaged.id, ADA) == found[damaged.id]


def test_a_model_damaged_with_its_record_hides_no_other(library: Library, model_folder: Path) -> None:
    whole, damaged = (library.add_from_folder(model_folder, ADA) for _ in range(2))
    folder = library.folder(damaged.id, ADA)
    (folder.parent / "record.json").write_text("{")
    (folder / "tokenizer.json").write_text("{")
    assert library.list_models(ADA) == [whole]


def test_a_record_is_readable_json(library: Library, model_folder: Path) -> None:
    record = library.add_from_folder(model_folder, ADA)
    written = json.loads((library.folder(record.id, ADA).parent / "record.json").read_text())
    assert written["added"].startswith("20") and written["name"] == "small"
    assert ModelRecord.from_json(written) == record


# Processes


ADD = """
import sys
from m2v_core.studio.library import Library
library = Library(sys.argv[1])
for _ in range(3):
    print(library.add_from_folder(sys.argv[2], "ada").id)
"""


def test_two_processes_share_a_library(library: Library, model_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD, str(tmp_path / "library"), str(model_folder)]
    running = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    added = [line for process in running for line in process.communicate(timeout=120)[0].split()]
    assert [process.returncode for process in running] == [0, 0]
    records = library.list_models(ADA)
    assert {record.id for record in records} == set(added)
    assert len(added) == 6
    assert len({record.name for record in records}) == 6
    Library(tmp_path / "library").delete(added[0], ADA)  # as another process would
    with pytest.raises(NotFoundError):
        library.load(added[0], ADA)
