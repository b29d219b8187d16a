"""`StaticModelPipeline`: a static model with a head; loading, prediction, evaluation and saving."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from m2v_core.classification import storage
from m2v_core.compat.model2vec import persistence
from m2v_core.compat.model2vec.inference.evaluation import evaluate_single_or_multi_label
from m2v_core.compat.model2vec.inference.mlp import Activation, MLPHead
from m2v_core.compat.model2vec.model import StaticModel
from m2v_core.encoder.texts import checked_texts
from m2v_core.errors import NotFoundError
from m2v_core.storage.formats import HEAD, SKOPS_HEAD, all_paths

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from m2v_core.hub.push import Pushed


class StaticModelPipeline:
    """Predicts labels or numbers from texts.

    Args:
        model: Computes the embeddings.
        head: Predicts labels or numbers from embeddings.

    Attributes:
        model: As passed.
        head: As passed.
        classes_: (n_labels,) the labels, in the order of the columns of `predict_proba`; None for numbers.
    """

    def __init__(self, model: StaticModel, head: MLPHead) -> None:
        self.model = model
        self.head = head
        self.classes_ = head.classes_

    @classmethod
    def from_pretrained(cls, path: str | PathLike[str], token: str | None = None) -> Self:
        """Load a pipeline from a folder or a Hub repository, as saved by any release of model2vec or this library.

        Args:
            path: A folder, or else a Hub repository.
            token: Hub token, for private and gated repositories.

        Raises:
            NotFoundError: No such folder, no such repository, or no head in it.
            HubError: There is no such folder, and the Hub can't be reached or rejected the request.
            ModelFormatError: The head is damaged, or contains untrusted types.
            MissingExtraError: There is only a skops file, and skops or scikit-learn isn't installed.
        """
        folder = _folder(path, token)
        if not (folder / HEAD).is_file() and (folder / SKOPS_HEAD).is_file():
            warnings.warn(
                f"{folder} has the legacy {SKOPS_HEAD} and no {HEAD}. Save the pipeline again to upgrade it.",
                stacklevel=2,
            )
        return _opened(cls, folder, (HEAD, SKOPS_HEAD))

    def save_pretrained(self, path: str | PathLike[str]) -> None:
        """Write the pipeline in a format that this library and model2vec from 0.9 on can load.

        Atomic: if writing fails, existing files at `path` are unchanged.

        Args:
            path: The folder to write; created if missing.

        Raises:
            SaveError: The folder can't be written, or the disk is full.
        """
        from m2v_core.storage import card, local

        head = self.head.head
        labels = card.Classifier(tuple(map(str, head.classes.tolist())), head.is_multi_label)
        local.save(
            Path(path).expanduser(),
            replace(self.model.stored(), config={**self.model.config, storage.CONFIG_KEY: storage.head_config(head)}),
            unk_token_id=self.model.unk_token_id,
            classifier=labels if head.has_labels else None,
            extra_files={HEAD: storage.to_safetensors(head)},
        )

    def push_to_hub(
        self, repo_id: str, subfolder: str | None = None, token: str | None = None, private: bool = False
    ) -> Pushed:
        """Publish the pipeline on the Hub, replacing an existing model.

        Args:
            repo_id: `owner/name`, or `name` for the token's own account.
            subfolder: Folder of the repository to publish to; None for its root.
            token: Hub token with write access.
            private: Whether a new repository is private.
        """
        with TemporaryDirectory(prefix="m2v-push-") as temporary:
            folder = Path(temporary, "model")
            self.save_pretrained(folder)
            return persistence.push_folder_to_hub(folder, subfolder, repo_id, private, token)

    def predict(
        self,
        X: str | Iterable[str],
        show_progress_bar: bool = False,
        max_length: int | EllipsisType | None = ...,
        batch_size: int = 1024,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
        threshold: float = 0.5,
    ) -> NDArray[Any]:
        """Predict the label, labels or numbers of each text.

        Args:
            X: One text, or any number of them.
            show_progress_bar: Show a progress bar on stderr.
            max_length: Maximum number of tokens per text; None for no limit; the model's own limit if not passed.
            batch_size: Accepted, but ignored.
            use_multiprocessing: Accepted, but ignored.
            multiprocessing_threshold: Accepted, but ignored.
            threshold: If texts can have any number of labels, predict those with a larger probability.

        Returns:
            (n_texts,) labels; (n_texts,) arrays of labels; or (n_texts, n_outputs) float32.
        """
        embeddings = self._embeddings(X, show_progress_bar, max_length)
        if self.classes_ is None:
            return self.head.predict_regression(embeddings)
        if self.head.activation == Activation.SOFTMAX:
            labels: NDArray[Any] = self.classes_[self.head.predict_index(embeddings)]
            return labels
        found = np.empty(len(embeddings), dtype=object)
        for number, row in enumerate(self.head.predict_proba(embeddings)):
            found[number] = self.classes_[row > threshold]
        return found

    def predict_proba(
        self,
        X: str | Iterable[str],
        show_progress_bar: bool = False,
        max_length: int | EllipsisType | None = ...,
        batch_size: int = 1024,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
    ) -> NDArray[np.float32]:
        """Return the probability of each label, (n_texts, n_labels); the arguments are those of `predict`.

        Raises:
            ValueError: The head returns numbers.
        """
        self._check_labels("predict_proba")
        return self.head.predict_proba(self._embeddings(X, show_progress_bar, max_length))

    def evaluate(
        self, X: str | Iterable[str], y: Iterable[Any], batch_size: int = 1024, threshold: float = 0.5
    ) -> dict[str, Any]:
        """Compare predictions with true labels; see `evaluate_single_or_multi_label`.

        Args:
            X: The texts.
            y: Their true labels.
            batch_size: Accepted, but ignored.
            threshold: As in `predict`.

        Raises:
            ValueError: The head returns numbers.
        """
        self._check_labels("evaluate")
        return evaluate_single_or_multi_label(self.predict(X, threshold=threshold), y)

    def _embeddings(
        self, texts: str | Iterable[str], show_progress_bar: bool, max_length: int | EllipsisType | None
    ) -> NDArray[np.float32]:
        return self.model.encode(checked_texts(texts), show_progress_bar=show_progress_bar, max_length=max_length)

    def _check_labels(self, method: str) -> None:
        if self.classes_ is None:
            raise ValueError(f"{method} requires labels, but the head of this pipeline returns numbers. Use predict.")


def convert_legacy_pipeline(
    path: str | PathLike[str], token: str | None = None, trust_remote_code: bool = False
) -> StaticModelPipeline:
    """Load a pipeline from a folder or a Hub repository with `pipeline.skops`, as saved by model2vec before 0.9.

    Args:
        path: A folder, or else a Hub repository.
        token: Hub token, for private and gated repositories.
        trust_remote_code: Accepted, but ignored; code of the file is never run.

    Raises:
        NotFoundError: No such folder, no such repository, or no `pipeline.skops` in it.
        ModelFormatError: The file is damaged, or contains untrusted types.
        MissingExtraError: skops or scikit-learn isn't installed.
    """
    return _opened(StaticModelPipeline, _folder(path, token), (SKOPS_HEAD,))


_Pipeline = TypeVar("_Pipeline", bound=StaticModelPipeline)


def _folder(path: str | PathLike[str], token: str | None) -> Path:
    folder = Path(path).expanduser()
    if folder.exists():
        return folder
    from m2v_core.hub import download

    return download.download(str(path), allow_patterns=[*all_paths(), HEAD, SKOPS_HEAD], token=token)


def _opened(kind: type[_Pipeline], folder: Path, heads: tuple[str, ...]) -> _Pipeline:
    if not any((folder / name).is_file() for name in heads):
        raise NotFoundError(
            f"{folder} contains no {' or '.join(heads)}. Train a model first, or load it as a StaticModel."
        )
    model = StaticModel.from_pretrained(folder)
    head = storage.load_head(folder, model.config) if HEAD in heads else storage.load_skops(folder / SKOPS_HEAD)
    return kind(model, MLPHead.of(head))
