"""The API: named endpoints for distillation, jobs, models and embeddings.

Clients are identified by a key, a secret string that gives access to their jobs and models. The browser stores one,
which the Library page shows; other clients create one with `new_owner`. The Explore page adds endpoints for search and
explanations.
"""
# No `from __future__ import annotations`: Gradio needs the types of return values.

from typing import Any

import gradio as gr

from m2v_core.distillation.settings import DEFAULTS
from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import InputError, LimitError
from m2v_core.studio.jobs import Job, JobSpec
from m2v_core.studio.jobs.kinds import KINDS
from m2v_core.studio.space.settings import current_limits
from m2v_core.studio.work.distilling import default_name
from pages import components
from pages.components import checked_owner, checked_teacher, job_store, raises_client_errors
from pages.components.job_view import seconds_left
from pages.components.model_picker import model_library, picked_model
from pages.components.served_files import archive_of, delete_model
from pages.gradio_patches import add_endpoint

# Cheap endpoints without side effects, offered to agents as tools; others take hours of compute or delete models.
READ_ONLY = frozenset({"list_models", "encode", "similar_words", "similar_documents", "similarity_shares"})

_SETTINGS = (KINDS["distill"].parameters or frozenset()) - {"model_name", "trust_remote_code"}


def build() -> None:
    """Add the endpoints, without visible components, to the current Blocks context."""
    for endpoint in (new_owner, distill, job, cancel, list_models, encode, download, delete):
        add_endpoint(endpoint)


def new_owner() -> str:
    """Create a key. Store it: it is the only way to access the jobs and models created with it."""
    return components.new_owner()


@raises_client_errors
def distill(
    owner: str, teacher: str, vocabulary: list[str] | None = None, settings: dict[str, Any] | None = None
) -> str:
    """Start a distillation; returns the id of the job, which is also the id of the finished model.

    Args:
        owner: Your key.
        teacher: The Hub id of a Sentence Transformer, or a folder path if the app runs on your computer.
        vocabulary: Words and phrases, most frequent first, or "word<TAB>count"; none for the teacher's own tokens.
        settings: Keyword arguments of m2v_core.distill, such as {"pca_dims": 128, "vocabulary": "auto:en"}.
    """
    settings = settings or {}
    if not isinstance(settings, dict):
        raise InputError(f"settings is a {type(settings).__name__}; pass an object such as {{'pca_dims': 128}}.")
    if unknown := sorted(set(settings) - _SETTINGS):
        raise InputError(f"Unknown setting {unknown[0]!r}; use {', '.join(sorted(_SETTINGS))}.")
    teacher = checked_teacher(_text(teacher, "teacher"))
    texts = {} if vocabulary is None else {"vocabulary": _texts(vocabulary, "vocabulary")}
    name = str(settings.get("name") or default_name(teacher, settings.get("pca_dims", DEFAULTS.pca_dims)))
    spec = JobSpec("distill", {"model_name": teacher, **settings, "name": name}, texts, name)
    return job_store().submit(spec, checked_owner(owner))


@raises_client_errors
def job(owner: str, job_id: str) -> dict[str, Any]:
    """Return the state of a job, its position in the queue, stage, progress, and the id of the finished model.

    Args:
        owner: Your key.
        job_id: The id that /distill returned.
    """
    return _job_view(job_store().get(_text(job_id, "job_id"), checked_owner(owner)))


@raises_client_errors
def cancel(owner: str, job_id: str) -> dict[str, Any]:
    """Cancel a job and return its state. Finished jobs are unchanged.

    Args:
        owner: Your key.
        job_id: The id that /distill returned.
    """
    return _job_view(job_store().cancel(_text(job_id, "job_id"), checked_owner(owner)))


@raises_client_errors
def list_models(owner: str) -> list[dict[str, Any]]:
    """List your models, newest first: id, name, teacher, recipe, dimensions, vocabulary size, precision and bytes.

    Args:
        owner: Your key.
    """
    return [record.to_json() for record in model_library().list_models(checked_owner(owner))]


@raises_client_errors
def encode(owner: str, model_id: str, texts: list[str]) -> list[list[float]]:
    """Return the embeddings of texts, one list of numbers each; all zeros for a text without known tokens.

    Args:
        owner: Your key.
        model_id: One of your models.
        texts: Up to 1,000 texts of up to 20,000 characters.
    """
    texts = _texts(texts, "texts")
    limits = current_limits()
    if len(texts) > limits.api_texts:
        raise LimitError(
            f"The request has {len(texts):,} texts; the limit here is {limits.api_texts:,}. Split it into several."
        )
    if any(len(text) > limits.text_characters for text in texts):
        raise LimitError(f"A text has more than {limits.text_characters:,} characters, the limit here. Shorten it.")
    embeddings: list[list[float]] = picked_model(checked_owner(owner), model_id).encode(texts).tolist()
    return embeddings


@raises_client_errors
def download(owner: str, model_id: str) -> dict[str, Any]:
    """Return a model as a ZIP file; gradio_client saves it and returns its path.

    Args:
        owner: Your key.
        model_id: One of your models.
    """
    archive = archive_of(checked_owner(owner), _text(model_id, "model_id"))
    return gr.FileData(path=str(archive), orig_name=archive.name, size=archive.stat().st_size).model_dump()


@raises_client_errors
def delete(owner: str, model_id: str) -> str:
    """Permanently delete a model and its job; returns the model's name.

    Args:
        owner: Your key.
        model_id: One of your models.
    """
    return delete_model(checked_owner(owner), _text(model_id, "model_id"))


def _job_view(found: Job) -> dict[str, Any]:
    progress = found.progress
    return {
        "id": found.id,
        "title": found.title,
        "state": found.state,
        "message": found.message,
        "queue_position": found.queue_position,
        "stage": progress.stage if progress else None,
        "done": progress.done if progress else 0,
        "total": progress.total if progress else 0,
        "seconds_left": seconds_left(found),
        "elapsed_seconds": found.elapsed_seconds,
        "model_id": found.id if found.kind == "distill" and found.state == "done" else None,
    }


# Values from clients are not validated by Gradio.
def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{name} is a {type(value).__name__}; pass a string.")
    return value


def _texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list):
        raise InputError(f"{name} must be a list of strings.")
    try:
        return well_formed(checked_texts(value))
    except InputError as error:
        raise InputError(f"{name} must be a list of strings. {error}") from error
