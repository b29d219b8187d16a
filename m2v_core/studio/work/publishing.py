"""Publishing from a job: the model is opened as others will open it, pushed, and fetched again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2v_core.errors import HubError, M2VError, MissingExtraError, ModelFormatError, NotSignedInError, first_line
from m2v_core.progress import ProgressReporter

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder
    from m2v_core.model import StaticModel
    from m2v_core.studio.jobs.kinds import WorkOrder

_TOLERANCE = 1e-3  # of an entry of a unit vector; number formats differ by less
_ERRORS = (M2VError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def publish(order: WorkOrder) -> Mapping[str, Any]:
    """Put a model's folder on the Hub.

    `model` is the folder, `model_id` what the app calls it, `model_name` what people do; the others are
    `kinds.DESTINATION`. `card` holds the text of README.md, in one piece; the folder's own without it. The secret
    `publish_token` signs in; `publish_grant` is the `Grant` that it came with, as text.

    Returns:
        `published`, as `put_on_hub` returns it.
    """
    return {"published": put_on_hub(order, Path(order.parameters["model"]), order.parameters)}


def put_on_hub(order: WorkOrder, folder: Path, destination: Mapping[str, Any]) -> dict[str, Any]:
    """Check a model's folder in every reader that is installed, then push it.

    Returns:
        `Pushed` as a mapping, `n_bytes`, and `readers`, the libraries that opened it.
    """
    reporter = ProgressReporter(order.progress, order.cancel)
    readers = check_readers(folder, reporter)
    from m2v_core.hub.attempts import refuse_long_waits
    from m2v_core.hub.push import push_folder

    refuse_long_waits()
    _check_permission(order, destination)
    card = "".join(order.texts.get("card", ())) or None
    pushed = push_folder(
        folder,
        destination["repo_id"],
        token=order.secrets.get("publish_token"),
        private=destination.get("private", True),
        revision=destination.get("revision"),
        create_pr=destination.get("create_pr", False),
        overwrite=destination.get("overwrite", False),
        card=card,
        progress=order.progress,
        cancel=order.cancel,
    )
    return {
        **vars(pushed),
        "n_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "readers": readers,
    }


def _check_permission(order: WorkOrder, destination: Mapping[str, Any]) -> None:
    """Look again whether the owner may publish: the job may have waited for long.

    Raises:
        HubError: They may not; the message says why.
    """
    from m2v_core.hub.account import Grant, sign_in

    token, grant = order.secrets.get("publish_token"), order.secrets.get("publish_grant")
    if token is None:
        return
    refused = "" if grant is None else Grant.from_text(grant).refusal(seconds_needed=0)
    if not refused:
        try:
            account = sign_in(token)
        except NotSignedInError as error:
            refused = str(error)
        except HubError:  # nobody can tell; the upload itself asks a few times, and says what failed
            return
        else:
            refused = "" if destination.get("create_pr") else account.refusal(destination["repo_id"])
    if refused:
        raise HubError(
            f"{destination['repo_id']} could not be published: {refused} Nothing was sent, and the Hub is as it was. "
            "Your copy is untouched."
        )


def check_readers(folder: Path, reporter: ProgressReporter) -> list[str]:
    """The libraries that open the model and find the same vectors, each with its version.

    What is not installed is left out.

    Raises:
        ModelFormatError: A reader can't open it, or finds other vectors.
    """
    reporter.start("check", 3)
    import numpy as np

    from m2v_core.evaluation.encoders import Model2VecEncoder, TeacherEncoder
    from m2v_core.model import StaticModel

    model = StaticModel.from_pretrained(str(folder))
    texts = _known_texts(model)
    found = ["m2v-studio"]
    reporter.advance(1)
    others: list[tuple[str, Callable[[Path], Encoder]]] = [
        ("model2vec", Model2VecEncoder),
        ("sentence-transformers", TeacherEncoder),
    ]
    for package, load in others:
        expected = model.encode(texts, prompt="" if package == "model2vec" else None)  # which applies no prompts
        try:
            vectors = load(folder).encode(texts)
        except MissingExtraError:
            pass
        except _ERRORS as error:
            reason = first_line(error)
            raise ModelFormatError(
                f"{package} can't open this model ({reason}). Nothing was sent. Distill it again, or take the ZIP."
            ) from error
        else:
            if vectors.shape != expected.shape or not np.allclose(vectors, expected, atol=_TOLERANCE):
                raise ModelFormatError(
                    f"{package} opens this model but finds other vectors than this app does. Nothing was sent. Distill "
                    "it again, or take the ZIP."
                )
            found.append(_with_version(package))
        reporter.advance(1)
    return found


def _known_texts(model: StaticModel) -> list[str]:
    """Two texts of the model's own words: how a reader treats unknown ones is its own affair."""
    words = []
    for token in model.tokens:
        word = re.sub(r"^(##|[▁Ġ]+)", "", token)
        if len(word) > 2 and word.isascii() and word.isalpha() and not token.startswith("##"):
            words.append(word)
        if len(words) == 12:
            break
    return [" ".join(words[:6]), " ".join(words[6:])] if len(words) > 6 else ["a short text", "another one"]


def _with_version(package: str) -> str:
    try:
        return f"{package} {version(package)}"
    except PackageNotFoundError:
        return package
