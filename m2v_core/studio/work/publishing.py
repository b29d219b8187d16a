"""The job that publishes a model: check it in other libraries, push it, and verify the upload."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2v_core._version import __version__
from m2v_core.errors import HubError, M2VError, MissingExtraError, ModelFormatError, NotSignedInError, first_line
from m2v_core.progress import ProgressReporter
from m2v_core.storage.formats import CARD

if TYPE_CHECKING:
    from m2v_core.evaluation.encoders import Encoder
    from m2v_core.model import StaticModel
    from m2v_core.studio.jobs.kinds import WorkOrder

logger = logging.getLogger(__name__)

_READERS = ("model2vec", "sentence-transformers")
_MAX_CHECKS = 200  # cached results of earlier checks
_TOLERANCE = 1e-3  # absolute, for unit vectors; differences between number formats are smaller
_ERRORS = (M2VError, OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)


def publish(order: WorkOrder) -> Mapping[str, Any]:
    """Publish a model's folder to the Hub.

    `model` is the folder, `model_id` its id in the library, `model_name` its name; the other parameters are
    `kinds.DESTINATION`. The text `card` replaces README.md. The secret `publish_token` is the access token, and
    `publish_grant` its `Grant` as text.

    Returns:
        `published`, from `push_model`.
    """
    return {"published": push_model(order, Path(order.parameters["model"]), order.parameters)}


def push_model(order: WorkOrder, folder: Path, destination: Mapping[str, Any]) -> dict[str, Any]:
    """Check a model's folder in all installed libraries, then push it.

    Returns:
        `Pushed` as a mapping, `n_bytes`, and `readers`, the libraries that opened the model.
    """
    reporter = ProgressReporter(order.progress, order.cancel)
    readers = _check_readers_cached(order, folder, reporter)
    from m2v_core.hub.attempts import reject_long_waits
    from m2v_core.hub.push import push_folder

    reject_long_waits()
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
        thumbnail=_thumbnail(order, folder, destination["repo_id"]),
        progress=order.progress,
        cancel=order.cancel,
    )
    return {
        **vars(pushed),
        "n_bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "readers": readers,
    }


def _thumbnail(order: WorkOrder, folder: Path, repo_id: str) -> bytes | None:
    """Draw the model's share card; None if that fails, because the card is optional.

    The job's parameter `maps` is a folder of cached topics and UMAPs. Without a cached UMAP, the card shows a PCA map.
    """
    from m2v_core.exploration.neighbors import WordNeighbors
    from m2v_core.exploration.projection import pca_map, read_map, sample_rows, umap_key
    from m2v_core.exploration.share_card import draw_share_card
    from m2v_core.exploration.topics import find_topics
    from m2v_core.model import StaticModel

    maps = Path(order.parameters.get("maps", order.shared_cache / "maps"))
    try:
        model = StaticModel.from_pretrained(str(folder))
        words = WordNeighbors(model)
        if not len(words):
            return None
        shown = sample_rows(len(words))
        rows = words.rows[shown]
        topics = find_topics(rows, [words.texts[index] for index in shown], words.ranks[shown], maps)
        points = read_map(maps / f"{umap_key(rows)}.npy")
        n_bytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        facts = [
            (f"{n_bytes / 1e6:,.1f} MB", "on disk"),
            (f"{len(model.tokens):,} tokens", f"{model.dim:,} dimensions"),
        ]
        return draw_share_card(
            repo_id, model.base_model_name or "", facts, pca_map(rows) if points is None else points, topics
        )
    except _ERRORS as error:
        logger.warning("The thumbnail could not be drawn: %s", error)
        return None


def _check_permission(order: WorkOrder, destination: Mapping[str, Any]) -> None:
    """Check again whether the owner may publish, as the job may have been queued for a long time.

    Raises:
        HubError: The owner may not publish.
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
        except HubError:  # unknown; the upload retries, and reports the error
            return
        else:
            refused = "" if destination.get("create_pr") else account.refusal(destination["repo_id"])
    if refused:
        raise HubError(
            f"{destination['repo_id']} could not be published: {refused} Nothing was uploaded, and nothing on the Hub "
            "was changed. Your local copy is unchanged."
        )


def _check_readers_cached(order: WorkOrder, folder: Path, reporter: ProgressReporter) -> list[str]:
    """Call `check_readers`, which takes a minute, with a cache keyed by the content of the model's files."""
    from m2v_core.storage.atomic import replacing_file
    from m2v_core.storage.cache import select_evictions

    checks = order.shared_cache / "readers"
    record = checks / f"{_fingerprint(folder)}.json"
    with suppress(OSError, ValueError):
        readers = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(readers, list) and all(isinstance(reader, str) for reader in readers):
            record.touch()
            return readers
    readers = check_readers(folder, reporter)
    with suppress(OSError):  # without a cache entry, the next upload repeats the check
        checks.mkdir(parents=True, exist_ok=True)
        with replacing_file(record) as unfinished:
            unfinished.write_text(json.dumps(readers), encoding="utf-8")
        for old in select_evictions(
            [(path.stat().st_mtime, path, 1) for path in checks.glob("*.json")], max_size=_MAX_CHECKS
        ):
            old.unlink(missing_ok=True)
    return readers


def _fingerprint(folder: Path) -> str:
    """Hash a model's files except its card, and the versions of the libraries."""
    digest = hashlib.sha256(json.dumps([__version__, *map(_with_version, _READERS)]).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.name != CARD):
        digest.update(json.dumps([path.relative_to(folder).as_posix(), path.stat().st_size]).encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def check_readers(folder: Path, reporter: ProgressReporter) -> list[str]:
    """Return the installed libraries that open the model and compute the same embeddings, with their versions.

    Raises:
        ModelFormatError: A library can't open the model, or computes different embeddings.
    """
    reporter.start("check", 3)
    import numpy as np

    from m2v_core.evaluation.encoders import Model2VecEncoder, TeacherEncoder
    from m2v_core.model import StaticModel

    model = StaticModel.from_pretrained(str(folder))
    texts = _known_texts(model)
    found = ["m2v-studio"]
    reporter.advance(1)
    encoders: list[Callable[[Path], Encoder]] = [Model2VecEncoder, TeacherEncoder]
    for package, load in zip(_READERS, encoders, strict=True):
        expected = model.encode(texts, prompt="" if package == "model2vec" else None)  # model2vec has no prompts
        try:
            vectors = load(folder).encode(texts)
        except MissingExtraError:
            pass
        except _ERRORS as error:
            reason = first_line(error)
            raise ModelFormatError(
                f"{package} can't open this model ({reason}). Nothing was uploaded. Distill it again, or download the "
                "ZIP."
            ) from error
        else:
            if vectors.shape != expected.shape or not np.allclose(vectors, expected, atol=_TOLERANCE):
                raise ModelFormatError(
                    f"{package} opens this model but computes different embeddings than this app. Nothing was "
                    "uploaded. Distill it again, or download the ZIP."
                )
            found.append(_with_version(package))
        reporter.advance(1)
    return found


def _known_texts(model: StaticModel) -> list[str]:
    """Build two texts of words in the model's vocabulary, because libraries may treat unknown words differently."""
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
