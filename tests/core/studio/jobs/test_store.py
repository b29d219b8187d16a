"""The life cycle of a job through the API."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from m2v_core.errors import InputError, LimitError, NotFoundError, SaveError
from m2v_core.studio.jobs import JobSpec, JobStore
from tests.core.studio.jobs.conftest import open_store, wait_until


def test_importing_the_package_loads_nothing_heavy():
    heavy = {"torch", "transformers", "numba", "gradio", "huggingface_hub", "numpy"}
    code = f"import m2v_core.studio.jobs, m2v_core.studio.jobs.supervisor, sys; print({heavy} & set(sys.modules))"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "set()"


def test_a_job_runs_to_its_result(make_store):
    store = make_store()
    spec = JobSpec("count", {"units": 4}, {"vocabulary": ["new york", "\ud800", "zażółć"]}, title="Counting")
    job_id = store.submit(spec, "ada")
    job = store.wait(job_id, "ada", timeout_seconds=30)
    assert (job.state, job.message, job.title) == ("done", "Done.", "Counting")
    assert job.outcome == {"units": 4, "words": ["new york", "\ud800", "zażółć"]}
    assert store.texts(job_id, "ada") == {"vocabulary": ["new york", "\ud800", "zażółć"]}
    assert (store.result_folder(job_id, "ada") / "counted.txt").read_text() == "4 3"
    assert [(stage.name, stage.done, stage.total, stage.is_finished) for stage in job.stages] == [
        ("load", 4, 4, True),
        ("encode", 4, 4, True),
    ]
    assert job.progress.stage == "encode"
    assert job.created_at <= job.started_at <= job.finished_at
    assert job.elapsed_seconds == pytest.approx(job.finished_at - job.started_at)
    leftovers = {path.name for path in store.result_folder(job_id, "ada").parent.iterdir()}
    assert leftovers == {"spec.json", "texts", "state.json", "progress.jsonl", "log.txt", "result"}


def test_damaged_texts_are_reported(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("count", texts={"vocabulary": ["a"]}), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    (root / job_id / "texts" / "vocabulary.json").write_text("[", encoding="utf-8")
    with pytest.raises(NotFoundError, match="can't be read"):
        store.texts(job_id, "ada")


def test_progress_moves_while_the_job_runs_and_a_new_store_sees_it(make_store):
    store = make_store()
    job_id = store.submit(JobSpec("count", {"units": 100, "seconds": 0.05}), "ada")
    wait_until(lambda: (progress := store.get(job_id, "ada").progress) and progress.done > 5)
    seen = store.get(job_id, "ada")
    assert seen.state == "running"
    assert seen.progress.eta_seconds > 0
    assert seen.elapsed_seconds > 0
    assert [stage.is_finished for stage in seen.stages] == [False]
    # As after a page reload or a restart of the app: only the root and the owner are known.
    store.close()
    again = make_store()
    (found,) = again.list_jobs("ada")
    assert found.id == job_id
    assert found.progress.done >= seen.progress.done
    wait_until(lambda: again.get(job_id, "ada").progress.done > found.progress.done)
    assert again.cancel(job_id, "ada").state == "cancelling"
    assert again.wait(job_id, "ada", timeout_seconds=10).state == "cancelled"


def test_the_queue_keeps_the_order_and_reports_positions(make_store, tmp_path: Path):
    store = make_store(max_running=1)
    file = tmp_path / "signatures"
    names = ["first", "second", "third", "fourth"]
    ids = [store.submit(JobSpec("sign", {"file": str(file), "name": name, "seconds": 0.5}), "ada") for name in names]
    wait_until(lambda: store.get(ids[0], "ada").state == "running")
    assert [store.get(job_id, "ada").queue_position for job_id in ids] == [None, 1, 2, 3]
    assert store.get(ids[1], "ada").elapsed_seconds == 0.0
    assert store.cancel(ids[1], "ada").state == "cancelled"
    store.delete(ids[2], "ada")
    assert store.get(ids[3], "ada").queue_position == 1
    assert [job.id for job in store.list_jobs("ada")] == [ids[3], ids[1], ids[0]]
    assert store.wait(ids[3], "ada", timeout_seconds=30).state == "done"
    assert file.read_text().split() == ["first", "fourth"]


def test_a_store_is_idle_without_unfinished_jobs_of_anybody(make_store):
    store = make_store(max_running=1)
    assert store.is_idle()
    jobs = [(owner, store.submit(JobSpec("count", {"units": 1000, "seconds": 0.1}), owner)) for owner in ("ada", "bob")]
    assert not store.is_idle()
    for owner, job_id in jobs:
        store.cancel(job_id, owner)
        store.wait(job_id, owner, 60.0)
    assert store.is_idle()


def test_the_number_of_running_jobs_is_limited(make_store):
    store = make_store(max_running=2)
    ids = [store.submit(JobSpec("count", {"units": 4, "seconds": 0.05}), "ada") for _ in range(5)]
    most = 0
    while not all(job.is_finished for job in store.list_jobs("ada")):
        most = max(most, sum(job.state == "running" for job in store.list_jobs("ada")))
    assert most == 2
    assert all(store.get(job_id, "ada").state == "done" for job_id in ids)


def test_other_owners_have_no_access(make_store):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    calls = (store.get, store.cancel, store.delete, store.result_folder, store.texts, store.log)
    for call in calls:
        for wrong_id in (
            job_id,
            "0" * 32,
            "",
            "../" + job_id,
            "result",
            str(store.result_folder(job_id, "ada")),
        ):
            with pytest.raises(NotFoundError) as caught:
                call(wrong_id, "eve")
            # Unknown jobs and jobs of other owners must be indistinguishable.
            assert str(caught.value) == "Job not found. It may have been deleted."
    assert store.list_jobs("eve") == []
    assert store.get(job_id, "ada").state == "done"


def test_a_job_that_is_not_done_has_no_result(run):
    store, job = run("refuse")
    with pytest.raises(NotFoundError, match="no result: it is failed"):
        store.result_folder(job.id, "ada")


def test_delete_removes_all_files_of_jobs_that_are_not_running(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("stubborn"), "ada")
    wait_until(lambda: store.get(job_id, "ada").progress)
    with pytest.raises(InputError, match="Cancel it first"):
        store.delete(job_id, "ada")
    store.cancel(job_id, "ada")
    store.wait(job_id, "ada", timeout_seconds=10)
    store.delete(job_id, "ada")
    assert {path.name for path in root.iterdir()} <= {".lock"}
    with pytest.raises(NotFoundError):
        store.get(job_id, "ada")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (JobSpec("paint"), "Unknown kind of job 'paint'"),
        (JobSpec("distill", {"model": "x"}), "no parameter 'model'; use 'apply_zipf'"),
        (JobSpec("distill", {}, {"sentences": ["x"]}), "no text 'sentences'; use 'corpus', 'vocabulary'"),
        (JobSpec("distill", {"pca_dims": float("nan")}), "JSON values"),
        (JobSpec("distill", {"device": object()}), "JSON values"),
        (JobSpec("distill", {}, {"vocabulary": "one string"}), "must be a list of strings"),
        (JobSpec("distill", {}, {"vocabulary": ["word", 3]}), "must be a list of strings"),
    ],
)
def test_invalid_jobs_are_rejected(make_store, root: Path, spec: JobSpec, message: str):
    with pytest.raises(InputError, match=message):
        make_store().submit(spec, "ada")
    assert {path.name for path in root.iterdir()} <= {".lock"}


def test_an_empty_owner_is_rejected(make_store):
    with pytest.raises(InputError, match="must be a nonempty string"):
        make_store().submit(JobSpec("count"), "")


def test_errors_name_the_limit(make_store):
    store = make_store(max_running=1, max_waiting=2, max_per_owner=2)
    for owner in ("ada", "ada", "bob"):
        store.submit(JobSpec("count", {"units": 100, "seconds": 0.1}), owner)
    with pytest.raises(LimitError, match=r"queue is full \(2 jobs\)"):
        store.submit(JobSpec("count"), "cyd")
    store.cancel(store.list_jobs("bob")[0].id, "bob")
    with pytest.raises(LimitError, match=r"2 unfinished jobs; the limit here is 2"):
        store.submit(JobSpec("count"), "ada")


def test_a_root_that_cannot_be_created_is_an_error(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SaveError, match="can't be written"):
        open_store(tmp_path / "file" / "jobs")
    with pytest.raises(InputError, match="max_running must be at least 1, got 0"):
        JobStore(tmp_path / "jobs", max_running=0)


def test_many_threads_share_a_store(make_store, tmp_path: Path):
    store = make_store(max_running=3)
    file = tmp_path / "signatures"
    errors = []

    def visit(owner: str) -> None:
        try:
            spec = JobSpec("sign", {"file": str(file), "name": owner, "seconds": 0.0})
            job_id = store.submit(spec, owner)
            while not store.get(job_id, owner).is_finished:
                assert [job.id for job in store.list_jobs(owner)] == [job_id]
                threading.Event().wait(0.05)
            assert store.get(job_id, owner).state == "done"
        except Exception as error:
            errors.append(error)

    owners = [f"owner-{number}" for number in range(8)]
    visitors = [threading.Thread(target=visit, args=(owner,)) for owner in owners]
    for visitor in visitors:
        visitor.start()
    for visitor in visitors:
        visitor.join()
    assert errors == []
    assert sorted(file.read_text().split()) == owners
