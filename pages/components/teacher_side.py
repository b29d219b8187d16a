"""Comparison with the teacher: the switch, its jobs, and search with the teacher."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from m2v_core.errors import InputError, NotFoundError
from m2v_core.exploration.neighbors import Neighbor, VectorNeighbors, WordNeighbors
from m2v_core.studio.jobs import Job, JobSpec
from m2v_core.studio.serving.teacher_queries import TeacherQueries
from m2v_core.studio.space.settings import current_limits
from m2v_core.studio.work.teacher_side import check_document_count, check_word_count, load_overlap, load_vectors
from pages.components import ASK_FOR_HELP, Values, checked_teacher, job_store, message_box, notice, on, shows_errors
from pages.components.model_picker import model_library, picked_words
from pages.components.waiting import bar_html
from pages.html import Markup, render

Kind = Literal["teacher_words", "teacher_documents"]

_TICK_SECONDS = 0.7
_FAILED = "The comparison with the teacher failed"
_MAX_RESULTS = 5  # stored results for documents, per owner
# Label and typical share of the total time of each stage.
_STAGES: dict[Kind, dict[str, tuple[str, float]]] = {
    "teacher_words": {
        "load": ("loading the teacher", 0.15),
        "encode": ("encoding the words with the teacher", 0.65),
        "compare": ("comparing neighbors", 0.2),
    },
    "teacher_documents": {
        "load": ("loading the teacher", 0.3),
        "encode": ("encoding the documents with the teacher", 0.7),
    },
}


@dataclass(frozen=True)
class Documents:
    """A user's documents; equal if their keys are.

    Attributes:
        texts: The documents.
        key: Hash of the content.
    """

    texts: tuple[str, ...] = field(compare=False, repr=False)
    key: str


@dataclass(frozen=True)
class TeacherSwitch:
    """The switch's components.

    Attributes:
        ready_id: The job with the teacher's vectors; empty without one. Its change event triggers a new search.
        about: The model and documents of the other values. A late response for other inputs changes it, which triggers
            an update for the current inputs.
    """

    kind: Kind
    is_on: gr.Checkbox
    status: gr.HTML
    cancel: gr.Button
    timer: gr.Timer
    ready_id: gr.State
    about: gr.State

    @property
    def shown(self) -> dict[str, Any]:
        """The components that `follow` returns values for."""
        return {name: getattr(self, name) for name in ("status", "cancel", "timer", "ready_id", "about")}

    def connect(
        self, owner: Any, model_id: Any, documents: Any, starts: Sequence[Any], looks: Sequence[Any] = ()
    ) -> None:
        """Connect the events of the switch.

        Args:
            documents: State with the documents to compare; None in the state compares the model's words.
            starts: Events that start a job, if necessary.
            looks: Events that update the status.
        """
        inputs = [owner, model_id, documents, self.is_on]
        start = functools.partial(follow, self.kind, may_start=True)
        look = functools.partial(follow, self.kind, may_start=False)
        on(self.is_on.change, functools.partial(switch, self.kind), inputs, self.shown)
        on(list(starts), start, inputs, self.shown, latest=True)
        on([self.timer.tick, self.about.change, *looks], look, inputs, self.shown, latest=True)
        stopped = {"is_on": self.is_on, **self.shown}
        on(self.cancel.click, functools.partial(cancel, self.kind), [owner, model_id, documents], stopped)


def teacher_checkbox() -> gr.Checkbox:
    """The checkbox that turns the comparison on and off."""
    return gr.Checkbox(False, label="Compare with teacher", elem_classes="m2v-beside-switch")


def build_teacher_switch(kind: Kind, is_on: gr.Checkbox) -> TeacherSwitch:
    """Add the other components of the switch to the current Blocks context; `connect` it once the inputs exist."""
    with gr.Row(elem_classes="m2v-reading-row"):
        status = message_box()
        stop = gr.Button("Cancel", visible=False, size="sm", elem_classes="m2v-cancel-reading")
    return TeacherSwitch(kind, is_on, status, stop, gr.Timer(_TICK_SECONDS, active=False), gr.State(""), gr.State(""))


def follow(
    kind: Kind, owner: str | None, model_id: str | None, documents: Documents | None, is_on: bool, may_start: bool
) -> Values:
    """Update the switch; if it `may_start`, submit a job for words or documents that are not encoded yet."""
    if not is_on or not (owner and model_id) or (kind == "teacher_documents" and documents is None):
        return _switch_values("")
    values = functools.partial(_switch_values, about=f"{model_id} {documents.key if documents else ''}")
    job, failure = _find_or_submit(kind, owner, model_id, documents, may_start)
    if failure:
        return values(failure)
    if job is None:
        return values(notice("info", "These texts are not encoded by the teacher yet", ["Search to encode them."]))
    if job.state == "done":
        return values("", ready_id=job.id)
    if job.state == "failed":
        return values(failed_html(job, _FAILED))
    if job.state == "cancelled":
        return values("")
    return values(progress_html(job), is_running=True)


@shows_errors(_FAILED, lambda message: (None, message))
def _find_or_submit(
    kind: Kind, owner: str, model_id: str, documents: Documents | None, may_start: bool
) -> tuple[Job | None, str]:
    """Return the comparison job, submitting it if permitted, or an error as HTML."""
    teacher = teacher_of(owner, model_id)
    job = find_comparison(kind, owner, model_id, documents)
    if may_start and (job is None or job.state in ("failed", "cancelling", "cancelled")):
        job = _submit(kind, owner, model_id, documents, teacher)
    if job is not None and job.state == "done" and may_start:
        teacher_queries().prepare(teacher)
    return job, ""


def switch(kind: Kind, owner: str | None, model_id: str | None, documents: Documents | None, is_on: bool) -> Values:
    """Update the switch after it was turned on, or turned off, which cancels its job."""
    if is_on:
        return follow(kind, owner, model_id, documents, is_on, may_start=True)
    shown = cancel(kind, owner, model_id, documents)
    shown.pop("is_on", None)
    return shown


@shows_errors("The comparison can't be cancelled", lambda message: _switch_values(message))
def cancel(kind: Kind, owner: str | None, model_id: str | None, documents: Documents | None) -> Values:
    """Turn the switch off and cancel its job."""
    job = find_comparison(kind, owner or "", model_id or "", documents)
    if job is not None and job.state in ("queued", "running"):
        job_store().cancel(job.id, owner or "")
    return {"is_on": False, **_switch_values("")}


def _switch_values(status: str, is_running: bool = False, ready_id: str = "", about: str = "") -> Values:
    return {
        "status": status,
        "cancel": gr.Button(visible=is_running),
        "timer": gr.Timer(active=is_running),
        "ready_id": ready_id,
        "about": about,
    }


def teacher_of(owner: str, model_id: str) -> str:
    """Return the teacher of a model: a name on the Hub or, except on a Space, a folder.

    Raises:
        NotFoundError: The model does not exist, or has another owner.
        InputError: The model doesn't state its teacher, or the teacher is not permitted here.
    """
    teacher = model_library().get(model_id, owner).teacher
    if not teacher:
        raise InputError(
            "This model doesn't state its teacher, so a comparison is not possible. Choose a model that was distilled "
            "in this app."
        )
    return checked_teacher(teacher)


def find_comparison(kind: Kind, owner: str, model_id: str, documents: Documents | None = None) -> Job | None:
    """Return the newest comparison job for these words or documents; None if there is none."""
    if not (owner and model_id):
        return None
    if kind == "teacher_words":
        wanted = {"model_id": model_id}
    elif documents is not None:
        wanted = {"key": documents.key, "teacher": teacher_of(owner, model_id)}
    else:
        return None
    for job in job_store().list_jobs(owner):
        if job.kind == kind and wanted.items() <= dict(job.parameters).items():
            return job
    return None


def _submit(kind: Kind, owner: str, model_id: str, documents: Documents | None, teacher: str) -> Job:
    store = job_store()
    name = model_library().get(model_id, owner).name
    if kind == "teacher_words":
        check_word_count(len(picked_words(owner, model_id)), current_limits().teacher_words)
        folder = model_library().folder(model_id, owner)
        parameters = {"model": str(folder), "model_id": model_id, "teacher": teacher}
        return store.get(store.submit(JobSpec(kind, parameters, {}, f"words of {name}"), owner), owner)
    assert documents is not None
    check_document_count(len(documents.texts), current_limits().teacher_documents)
    finished = [job for job in store.list_jobs(owner) if job.kind == kind and job.is_finished]
    for old in finished[_MAX_RESULTS - 1 :]:
        store.delete(old.id, owner)
    spec = JobSpec(kind, {"teacher": teacher, "key": documents.key}, {"documents": documents.texts}, "documents")
    return store.get(store.submit(spec, owner), owner)


@functools.cache
def teacher_queries() -> TeacherQueries:
    """The app's loaded teachers."""
    return TeacherQueries()


class TeacherNeighbors:
    """Search with the teacher among the words of a model or among documents.

    Args:
        teacher: Name of the teacher.
        texts: The words or documents.
        vectors: The teacher's embeddings of the texts, (n_texts, dim) float32, unit rows.
        ranks: The rank of each text; None for its index.
        left_out: Returns the texts to exclude from the results of a query; None to exclude none.

    Raises:
        NotFoundError: The number of vectors differs from the number of texts.
    """

    def __init__(
        self,
        teacher: str,
        texts: Sequence[str],
        vectors: NDArray[np.float32],
        ranks: NDArray[np.int64] | None = None,
        left_out: Callable[[str], Collection[str]] | None = None,
    ) -> None:
        if len(vectors) != len(texts):
            raise NotFoundError(
                "The teacher's embeddings are of other texts. Turn “Compare with teacher” off and on again."
            )
        self.teacher = teacher
        self._vectors = vectors
        self._places = {text: place for place, text in reversed(list(enumerate(texts)))}
        self._index = VectorNeighbors(texts, vectors, ranks)
        self._left_out = left_out

    def is_ready(self, query: str) -> bool:
        """Whether a search will return without loading the teacher."""
        return query.strip() in self._places or teacher_queries().is_ready(self.teacher, query)

    def search(self, query: str, k: int) -> list[Neighbor]:
        """Return the `k` texts that are nearest to the query according to the teacher, nearest first.

        Raises:
            TeacherError: The teacher can't be loaded or used.
        """
        place = self._places.get(query.strip())
        vector = teacher_queries().embed(self.teacher, query) if place is None else np.array(self._vectors[place])
        return self._index.search(vector, k, () if self._left_out is None else self._left_out(query))


def ready_neighbors(
    owner: str | None, model_id: str | None, documents: Documents | None, ready_id: str
) -> TeacherNeighbors | None:
    """Return the teacher's search in the documents, or else the model's words; None if the job is for other inputs.

    Raises:
        M2VError: The teacher's embeddings or the model were deleted.
    """
    kind: Kind = "teacher_words" if documents is None else "teacher_documents"
    job = find_comparison(kind, owner or "", model_id or "", documents) if ready_id else None
    if job is None or job.id != ready_id or job.state != "done":
        return None
    folder, teacher = job_store().result_folder(job.id, owner or ""), teacher_of(owner or "", model_id or "")
    return _neighbors(folder, teacher, picked_words(owner, model_id) if documents is None else documents)


@functools.lru_cache(maxsize=8)
def _neighbors(folder: Path, teacher: str, of: WordNeighbors | Documents) -> TeacherNeighbors:
    if isinstance(of, Documents):
        return TeacherNeighbors(teacher, of.texts, load_vectors(folder))
    return TeacherNeighbors(teacher, of.texts, load_vectors(folder), of.ranks, of.spelled_alike)


def words_folder(owner: str | None, model_id: str | None) -> Path | None:
    """The result folder of the job in which the teacher encoded the model's words; None if not finished.

    Raises:
        NotFoundError: The result was deleted.
    """
    job = find_comparison("teacher_words", owner or "", model_id or "")
    return job_store().result_folder(job.id, owner or "") if job is not None and job.state == "done" else None


def words_neighbors(owner: str | None, model_id: str | None) -> TeacherNeighbors | None:
    """The teacher's search in the model's words; None if the teacher has not encoded them.

    Raises:
        M2VError: The teacher's embeddings or the model were deleted.
    """
    folder = words_folder(owner, model_id)
    if folder is None:
        return None
    return _neighbors(folder, teacher_of(owner or "", model_id or ""), picked_words(owner, model_id))


def words_overlap(owner: str | None, model_id: str | None) -> tuple[NDArray[np.float32] | None, Job | None]:
    """Return the share of common neighbors of each shown word (None if not finished), and the comparison job.

    Raises:
        M2VError: The result or the model was deleted.
    """
    job = find_comparison("teacher_words", owner or "", model_id or "")
    if job is None or job.state != "done":
        return None, job
    return load_overlap(job_store().result_folder(job.id, owner or "")), job


def failed_html(job: Job, title: str) -> Markup:
    """Show why a job failed, with its id."""
    return notice("error", title, [job.message, render(ASK_FOR_HELP, id=job.id)])


def progress_html(job: Job) -> Markup:
    """Show the stage, progress and remaining time of a running job."""
    share = _fraction(job)
    left = job.progress.eta_seconds if job.progress is not None and job.progress.stage == "encode" else None
    time_left = f" · about {math.ceil(left)} s left" if left else ""
    numbers = f"{math.floor(100 * share)}%{time_left}"
    return bar_html(progress_text(job), numbers, share if job.state == "running" and share >= 0.01 else None)


def progress_text(job: Job) -> str:
    """The current stage of a job: "First time only: encoding the words with the teacher, 1,024 of 23,694"."""
    if job.state == "queued":
        return f"Number {job.queue_position} in the queue" if job.queue_position else "Queued"
    if job.state == "cancelling":
        return "Cancelling"
    stage = job.stages[-1] if job.stages else None
    label = _labels(job).get(stage.name, ("starting", 0.0))[0] if stage else "starting"
    count = f", {stage.done:,} of {stage.total:,}" if stage and stage.total else ""
    return f"First time only: {label}{count}"


def _labels(job: Job) -> dict[str, tuple[str, float]]:
    return _STAGES["teacher_words" if job.kind == "teacher_words" else "teacher_documents"]


def _fraction(job: Job) -> float:
    fraction = 0.0
    for stage in job.stages:
        share = _labels(job).get(stage.name, ("", 0.0))[1]
        fraction += share if stage.is_finished else share * stage.done / stage.total if stage.total else 0.0
    return min(fraction, 0.99)
