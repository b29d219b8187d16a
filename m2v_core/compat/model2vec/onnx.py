"""Models and pipelines in ONNX."""

from __future__ import annotations

import shutil
from os import PathLike
from pathlib import Path

from m2v_core.classification import storage
from m2v_core.compat.model2vec.inference import StaticModelPipeline
from m2v_core.compat.model2vec.model import StaticModel
from m2v_core.storage import export
from m2v_core.storage.atomic import replacing_file, saving


def export_model_to_onnx(
    model: StaticModel | StaticModelPipeline,
    save_path: str | PathLike[str],
    remove_post_processor: bool = True,
    source_model_name: str | None = None,
) -> None:
    """Write `model.onnx` and the files of `m2v export`: `onnx/model.onnx` for transformers.js and the tokenizer.

    The first output is `embeddings`; for a pipeline `probabilities`, or `predictions` without labels.

    Args:
        model: A model or a pipeline.
        save_path: The folder to write; created if missing.
        remove_post_processor: Accepted, but ignored; the written tokenizer never adds special tokens.
        source_model_name: Accepted, but ignored; the card has the name of the folder.

    Raises:
        InputError: The model is too large for one ONNX file.
        MissingExtraError: The package onnx isn't installed.
        SaveError: The folder can't be written.
    """
    encoder, head = (model.model, model.head.head) if isinstance(model, StaticModelPipeline) else (model, None)
    folder = export.write_onnx(
        encoder.stored(),
        Path(save_path).expanduser(),
        unk_token_id=encoder.unk_token_id,
        head=None if head is None else storage.for_onnx(head),
    )
    with saving(folder), replacing_file(folder / "model.onnx") as unfinished:
        shutil.copyfile(folder / "onnx" / "model.onnx", unfinished)
