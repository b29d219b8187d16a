"""Rule 8: every limit of `spaces.yaml` as the app applies it, exceeded by one; each refusal names it.

The limits are made small here; the two that need neither models nor jobs are exceeded as they stand, over HTTP.
"""

from __future__ import annotations

import functools
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from m2v_core.errors import M2VError
from m2v_core.studio.jobs import JobSpec, JobStore
from m2v_core.studio.jobs.kinds import Kind
from m2v_core.studio.space import settings
from m2v_core.studio.space.settings import Limits, load_settings
from pages import api, compare, components, distill, evaluate, explore
from pages.components import model_picker, own_documents, preflight_card, served_files, teacher_side
from pages.components.account import Visitor
from pages.components.distill_settings import DEFAULTS
from pages.components.served_files import remove_old_files, served_folder
from tests.attacks.space import Stranger, marked_model

ADA, BOB, CYD = "a" * 24, "b" * 24, "c" * 24
SPACE = load_settings().space
TEACHER = {"model_name": "nobody/none"}
KINDS = {"distill": Kind("tests.attacks.space:make_model", None, frozenset({"vocabulary"}))}


class App:
    """The app's own store and library, with other limits than a Space's where a test says so."""

    def __init__(self, home: Path, patch: pytest.MonkeyPatch) -> None:
        self.home = home
        self._patch = patch

    def limit(self, **changes: int) -> None:
        """Let the app be a Space with these limits."""
        own = load_settings()
        changed = replace(own, space=replace(own.space, **changes))
        self._patch.setattr(settings, "_own_settings", lambda: changed)

    def model(self, owner: str = ADA) -> str:
        """A model that someone puts into their library."""
        folder = self.home / "small"
        marked_model().save_pretrained(folder)
        return model_picker.model_library().add_from_folder(folder, owner).id

    def job(self, owner: str = ADA, words: int = 0) -> str:
        """A job that someone starts; one with words goes on and on."""
        return components.job_store().submit(JobSpec("distill", TEACHER, {"vocabulary": ["x"] * words}), owner)

    def end(self, job_id: str, owner: str = ADA) -> Any:
        """The job once it has finished."""
        return components.job_store().wait(job_id, owner, 60)


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[App]:
    monkeypatch.setenv("SPACE_ID", "someone/m2v-studio")
    monkeypatch.setenv("M2V_STUDIO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(Path.cwd()), os.environ.get("PYTHONPATH", "")])))
    # As the app makes it, with work that needs no teacher.
    monkeypatch.setattr(components, "JobStore", lambda *args, **kwargs: JobStore(*args, **kwargs, kinds=KINDS))
    caches: list[Any] = [components.job_store, model_picker.model_library, own_documents.text_store]
    for cache in caches:
        cache.cache_clear()
    preflight_card._cache.clear()
    made = App(tmp_path, monkeypatch)
    yield made
    store = components.job_store()
    for owner in (ADA, BOB, CYD):
        for job in store.list_jobs(owner):
            if not job.is_finished:
                store.cancel(job.id, owner)
                store.wait(job.id, owner, 30)
    store.close()
    for cache in caches:
        cache.cache_clear()


def refused(says: str, call: Callable[..., Any], *args: Any) -> None:
    with pytest.raises((M2VError, gr.Error), match=re.escape(says)):
        call(*args)


def running_jobs(app: App) -> None:
    app.limit(running_jobs=1)
    first, second = app.job(words=1), app.job(BOB, words=1)
    deadline = time.monotonic() + 120
    while components.job_store().get(first, ADA).state != "running":
        assert time.monotonic() < deadline
    assert components.job_store().get(second, BOB).queue_position == 1


def waiting_jobs(app: App) -> None:
    app.limit(running_jobs=1, waiting_jobs=1)
    app.job(words=1)
    app.job(BOB, words=1)
    refused("The queue is full (1 jobs)", app.job, CYD, 1)


def jobs_per_person(app: App) -> None:
    app.limit(jobs_per_person=1)
    app.job(words=1)
    refused("1 unfinished job; the limit here is 1", app.job, ADA, 1)


def job_seconds(app: App) -> None:
    app.limit(job_seconds=2)
    job = app.end(app.job(words=1))
    assert job.state == "failed" and "2 second" in job.message


def job_memory_bytes(app: App) -> None:
    app.limit(job_memory_bytes=600_000_000)
    assert app.end(app.job()).state == "done"
    spec = JobSpec("distill", {**TEACHER, "n_bytes": 600_000_000})
    job = app.end(components.job_store().submit(spec, ADA))
    assert job.state == "failed" and "memory" in job.message


def jobs_bytes(app: App) -> None:
    app.limit(jobs_bytes=1)
    app.end(app.job())
    components.job_store()._clean_as_configured()
    assert components.job_store().list_jobs(ADA) == []


def jobs_kept_days(app: App) -> None:
    app.limit(jobs_kept_days=1)
    store = components.job_store()
    app.end(app.job())
    store._clean_as_configured()
    assert store.list_jobs(ADA)
    app._patch.setattr(time, "time", lambda now=time.time: now() + 24 * 3600 + 1)
    store._clean_as_configured()
    assert store.list_jobs(ADA) == []


def vocabulary_words(app: App) -> None:
    app.limit(vocabulary_words=2)
    refused("3 entries; the limit here is 2", api.distill, ADA, "a/b", ["a", "b", "c"])
    for size in (3, "40MB"):
        settings = {"vocabulary": "auto:en", "vocabulary_size": size}
        refused(f"vocabulary_size is {size!r}; the limit here is 2 words", api.distill, ADA, "a/b", None, settings)
    refused("vocabulary_size is 30000", api.distill, ADA, "a/b", None, {"vocabulary": "auto"})


def corpus_characters(app: App) -> None:
    app.limit(corpus_characters=5)
    corpus = app.home / "corpus.txt"
    corpus.write_text("abc\ndef\n")
    call = functools.partial(
        distill.submit, ADA, Visitor(), "a/b", "output", "paste", "", None, None, False, **DEFAULTS
    )
    refused("more than 5 characters", call, str(corpus))


def teacher_parameters(app: App) -> None:
    app.limit(teacher_parameters=1)
    checked = preflight_card.preflight(components.BUNDLED_TEACHER, None, True, 256, "float16", None, None, "fast")
    assert "limit here is 1" in checked.card and not checked.can_start
    assert components.job_store()._dispatcher._limits.teacher_parameters == 1


def teacher_words(app: App) -> None:
    app.limit(teacher_words=1)
    shown = teacher_side.follow("teacher_words", ADA, app.model(), None, True, True)
    assert "the limit for the teacher" in shown["status"] and "is 1." in shown["status"]


def teacher_documents(app: App) -> None:
    app.limit(teacher_documents=1)
    documents = own_documents.as_documents(["a", "b"])
    shown = teacher_side.follow("teacher_documents", ADA, app.model(), documents, True, True)
    assert "the limit for the teacher" in shown["status"] and "is 1." in shown["status"]


def models_per_person(app: App) -> None:
    app.limit(models_per_person=1)
    app.model()
    refused("contains 1 models; the limit here is 1", app.model)
    app.model(BOB)


def model_bytes(app: App) -> None:
    n_bytes = model_picker.model_library().get(app.model(), ADA).n_bytes
    model_picker.model_library.cache_clear()
    app.limit(model_bytes=n_bytes - 1)
    refused(f"{n_bytes:,} bytes, but at most {n_bytes - 1:,} are allowed", app.model, BOB)


def library_bytes(app: App) -> None:
    n_bytes = model_picker.model_library().get(app.model(), ADA).n_bytes
    model_picker.model_library.cache_clear()
    app.limit(library_bytes=2 * n_bytes - 1)
    refused("The libraries of all users are full", app.model, BOB)


def models_kept_days(app: App) -> None:
    app.limit(models_kept_days=1)
    record = model_picker.model_library().folder(app.model(), ADA).parent / "record.json"
    os.utime(record, (time.time() - 24 * 3600 - 1,) * 2)
    app.model(BOB)  # whoever adds one tidies up
    assert model_picker.model_library().list_models(ADA) == []


def documents(app: App) -> None:
    app.limit(documents=2)
    refused("3 texts; the limit here is 2", explore.similar_documents, ADA, app.model(), ["a", "b", "c"], "a")


def documents_kept_days(app: App) -> None:
    app.limit(documents_kept_days=1)
    kept = own_documents.text_store()
    kept.put(["a"], ADA)
    [file] = (app.home / "home" / "documents").iterdir()
    os.utime(file, (time.time() - 24 * 3600 - 1,) * 2)
    assert kept.get(ADA) == []


def speed_models(app: App) -> None:
    app.limit(speed_models=1)
    models = [app.model(), app.model()]
    refused(
        "2 models are selected; the limit here is 1",
        compare.submit,
        ADA,
        models,
        False,
        None,
        "sample",
        "",
        None,
        None,
        3,
        5,
        0,
    )


def speed_texts(app: App) -> None:
    app.limit(speed_texts=4)
    refused("5 texts; the limit here is 4", compare.load_texts, "own", "a\nb\nc\nd\ne", None, None, 3)


def evaluation_models(app: App) -> None:
    app.limit(evaluation_models=1)
    picked, other = app.model(), app.model()
    call = functools.partial(evaluate.submit, ADA, picked, ["fidelity"], "a/b")
    refused("2 models are selected; the limit here is 1", call, [other], "sample", "", None, None, None, 0)


def evaluation_texts(app: App) -> None:
    app.limit(evaluation_texts=4)
    refused("5 texts; the limit here is 4", evaluate.load_texts, "own", "a\nb\nc\nd\ne", None)
    table = app.home / "table.csv"
    table.write_text("1,a,b\n2,c,d\n3,a,e\n")
    refused("5 texts; the limit here is 4", evaluate.read_sets, [str(table)])


def served_bytes(app: App) -> None:
    app.limit(served_bytes=1000)
    now = time.time()
    for age_seconds, name in enumerate(("newest", "middle", "oldest")):
        folder = served_folder() / name
        folder.mkdir(parents=True)
        (folder / "upload.txt").write_bytes(bytes(600))
        os.utime(folder, (now - 3600 * (age_seconds + 1),) * 2)
    remove_old_files(served_folder())
    assert [path.name for path in served_folder().iterdir()] == ["newest"]


def hub_cache_bytes(app: App) -> None:
    """What goes first is tested with the cache; here, that the app looks after it."""
    app.limit(hub_cache_bytes=123)
    asked: list[int] = []
    app._patch.setattr(served_files, "trim_hub_cache", asked.append)
    served_files.clean_up()
    assert asked == [123]


def api_texts(app: App) -> None:
    app.limit(api_texts=1)
    refused("The request has 2 texts; the limit here is 1", api.encode, ADA, app.model(), ["a", "b"])


def text_characters(app: App) -> None:
    app.limit(text_characters=3)
    model_id = app.model()
    assert api.encode(ADA, model_id, ["abc"])
    refused("more than 3 characters", api.encode, ADA, model_id, ["abcd"])


ATTACKS = [
    *(running_jobs, waiting_jobs, jobs_per_person, job_seconds, job_memory_bytes, jobs_bytes, jobs_kept_days),
    *(vocabulary_words, corpus_characters, teacher_parameters, teacher_words, teacher_documents),
    *(models_per_person, model_bytes, library_bytes, models_kept_days, documents, documents_kept_days),
    *(served_bytes, hub_cache_bytes),
    *(speed_models, speed_texts, evaluation_models, evaluation_texts, api_texts, text_characters),
]


def test_every_limit_is_attacked() -> None:
    over_http = {"upload_bytes"}
    assert {attack.__name__ for attack in ATTACKS} | over_http == {field.name for field in fields(Limits)}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_one_more_is_refused(app: App, attack: Callable[[App], None]) -> None:
    attack(app)


def test_one_byte_more_is_no_upload(stranger: Stranger) -> None:
    assert SPACE.upload_bytes is not None
    content = bytes(SPACE.upload_bytes + 1)
    assert stranger.upload("large.txt", content).status_code == 413
    assert stranger.upload("large.txt", content[:-1]).status_code == 200


def test_limits_hold_over_http(stranger: Stranger) -> None:
    said = stranger.call("encode", stranger.key, "0" * 32, ["x"] * (SPACE.api_texts + 1))
    assert f"limit here is {SPACE.api_texts:,}" in said
    said = stranger.call("encode", stranger.key, "0" * 32, ["x" * (SPACE.text_characters + 1)])
    assert f"more than {SPACE.text_characters:,} characters" in said
    said = stranger.call("similar_documents", stranger.key, "0" * 32, ["x"] * (SPACE.documents + 1), "x", 3)
    assert f"limit here is {SPACE.documents:,}" in said
    assert SPACE.vocabulary_words is not None
    words = [f"w{number}" for number in range(SPACE.vocabulary_words + 1)]
    assert f"limit here is {SPACE.vocabulary_words:,}" in stranger.call("distill", stranger.key, "a/b", words, None)
