"""Secrets are passed only to the worker."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest

from m2v_core.errors import InputError
from m2v_core.studio.jobs import JobSpec
from m2v_core.studio.jobs.redaction import REDACTED, Redactor

_TOKEN = "hf_" + "Q7" * 17
_PASSWORD = "correct horse battery staple"


def _assert_nowhere(folder: Path, *secrets: str) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files
    for file in files:
        for secret in secrets:
            assert secret.encode() not in file.read_bytes(), file


@pytest.mark.parametrize("fail", [False, True])
def test_a_secret_is_nowhere_on_disk(run, root: Path, fail: bool):
    store, job = run("echo", secrets={"hf_token": _TOKEN, "password": _PASSWORD}, fail=fail)
    # The worker received it, printed it in three ways, and returned it in the result or the error.
    assert store.log(job.id, "ada").count(REDACTED) >= 4
    if fail:
        assert (job.state, job.message) == ("failed", f"The Hub refused {REDACTED}.")
    else:
        assert (job.state, job.outcome) == ("done", {"echo": REDACTED})
    _assert_nowhere(root, _TOKEN, _PASSWORD, "hf_xxxx")
    assert not (root / job.id / "cache").exists()  # the cache of private downloads


def test_secrets_in_truncated_lines_are_removed(run):
    store, job = run("ramble", secrets={"hf_token": _TOKEN})
    log = store.log(job.id, "ada")
    assert "the end" in log
    assert not any(_TOKEN[start : start + 6] in log for start in range(len(_TOKEN) - 6))


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_secrets_are_not_visible_in_the_process_list(run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", _TOKEN[::-1])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not for workers")
    store, job = run("look_around", secrets={"hf_token": _TOKEN})
    seen = ast.literal_eval((store.result_folder(job.id, "ada") / "seen.txt").read_text())
    assert len(seen) == 4
    for text in seen.values():
        assert _TOKEN not in text
        assert _TOKEN[::-1] not in text
        assert "AWS_SECRET" not in text
    assert any("m2v_core.studio.jobs.worker" in text for text in seen.values())
    assert any(f"HOME={os.environ['HOME']}" in text for text in seen.values())


@pytest.mark.parametrize(
    "spec",
    [
        JobSpec("count", {"model_name": f"https://user:{_TOKEN}@huggingface.co/x"}),
        JobSpec("count", {"nested": [{"deep": _PASSWORD}]}),
        JobSpec("count", {_PASSWORD: 1}),
        JobSpec("count", {}, {"vocabulary": ["word", _TOKEN]}),
        JobSpec("count", title=_TOKEN),
    ],
)
def test_a_secret_in_the_parameters_is_rejected(make_store, root: Path, spec: JobSpec):
    with pytest.raises(InputError, match="access token, which must not be stored"):
        make_store().submit(spec, "ada", secrets={"password": _PASSWORD})
    assert {path.name for path in root.iterdir()} <= {".lock"}


def test_words_similar_to_tokens_are_allowed(make_store):
    store = make_store()
    words = ["hf_transfer", "hf_hub_download", "hf_internaltesting"]
    job_id = store.submit(JobSpec("count", {}, {"vocabulary": words}), "ada", secrets={"hf_token": ""})
    assert store.wait(job_id, "ada", timeout_seconds=30).state == "done"


def test_the_owner_is_stored_as_a_hash(make_store, root: Path):
    store = make_store()
    store.wait(store.submit(JobSpec("count"), "a-random-browser-id"), "a-random-browser-id", timeout_seconds=30)
    _assert_nowhere(root, "a-random-browser-id")


def test_a_root_is_readable_only_by_its_user(make_store, root: Path):
    store = make_store()
    job_id = store.submit(JobSpec("count"), "ada")
    store.wait(job_id, "ada", timeout_seconds=30)
    assert root.stat().st_mode & 0o077 == 0
    assert (root / job_id).stat().st_mode & 0o077 == 0
    assert (root / job_id / "result" / "counted.txt").stat().st_mode & 0o077 == 0


def test_longer_secrets_are_redacted_first():
    redactor = Redactor(["abc", "abcdef", ""])
    assert redactor.text("abcdef, abc, ab") == f"{REDACTED}, {REDACTED}, ab"
    assert redactor.json({"abc": ["abcdef", 1, None, {"x": "abc"}]}) == {REDACTED: [REDACTED, 1, None, {"x": REDACTED}]}
