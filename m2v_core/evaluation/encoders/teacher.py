"""Sentence Transformers on torch and on ONNX Runtime."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import NeedsExtra, TeacherError, first_line
from m2v_core.evaluation.encoders.base import EncoderFacts, disk_bytes
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.storage.teacher_code import find_custom_code, read_modules, reject_custom_code

_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)
_OPSET = 17  # the newest that torch's tracing exporter supports


class TeacherEncoder:
    """A Sentence Transformer with all its modules, as sentence-transformers runs it by default.

    Args:
        folder: Folder of the model; see `m2v_core.distillation.teacher.teacher.trusted_folder`.
        name: Display name; None for the name of the folder.
        device: `"cpu"`, `"cuda"`, ...; see `m2v_core.distillation.teacher.teacher.resolve_device`.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        RemoteCodeError: The teacher has modules with custom code, which is never run.
        TeacherError: The folder contains no Sentence Transformer, or a damaged one.
    """

    def __init__(self, folder: str | Path, name: str | None = None, device: str = "cpu") -> None:
        folder = Path(folder)
        name = name or folder.resolve().name
        self._model = load_sentence_transformer(folder, name, device)
        self.on_batch: Callable[[int], None] | None = None
        self._model[-1].register_forward_hook(self._report_batch)
        import torch

        on = str(self._model.device)
        if self._model.device.type == "cuda":
            on += f" ({torch.cuda.get_device_name(self._model.device)})"
        width = int(self._model.encode("width", show_progress_bar=False).shape[-1])
        self.facts = EncoderFacts(name, "teacher", width, on, torch.get_num_threads(), disk_bytes(folder))

    @property
    def prompts(self) -> dict[str, str]:
        """The teacher's prompts, by name."""
        return {name: prompt or "" for name, prompt in (self._model.prompts or {}).items()}

    def encode(self, texts: Sequence[str], batch_size: int = 32, *, prompt: str | None = None) -> NDArray[np.float32]:
        """See `Encoder`; the default batch size is that of sentence-transformers."""
        embeddings: NDArray[np.float32] = self._model.encode(
            well_formed(checked_texts(texts)), batch_size=batch_size, show_progress_bar=False, prompt=prompt
        )
        return embeddings

    def _report_batch(self, module: object, inputs: object, features: Mapping[str, Any]) -> None:
        if self.on_batch is not None:
            self.on_batch(len(features["sentence_embedding"]))


class OnnxTeacherEncoder:
    """A Sentence Transformer whose transformer runs in ONNX Runtime on the CPU.

    The graph is the folder's `onnx/model.onnx` if it exists, and is traced by torch otherwise. Everything else
    (tokenization, prompt, pooling, normalization) is done by sentence-transformers. Its `backend="onnx"` is not used,
    because it requires optimum-onnx, which does not support transformers from 4.58 on.

    Args:
        folder: As for `TeacherEncoder`.
        name: Display name; None for the name of the folder with `(ONNX)`.

    Raises:
        MissingExtraError: onnxruntime, onnx or sentence-transformers is not installed.
        RemoteCodeError: As for `TeacherEncoder`.
        TeacherError: As for `TeacherEncoder`, or its graph can't be traced or opened.
    """

    def __init__(self, folder: str | Path, name: str | None = None) -> None:
        folder = Path(folder)
        name = name or f"{folder.resolve().name} (ONNX)"
        with NeedsExtra("onnxruntime", "onnx"):
            import onnxruntime
        self._model = load_sentence_transformer(folder, name, "cpu", attn_implementation="eager")
        graph = folder / "onnx" / "model.onnx"
        with tempfile.TemporaryDirectory(prefix="m2v-onnx-") as scratch:
            if not graph.is_file():
                graph = Path(scratch) / "model.onnx"
                _trace(self._model, graph, name)
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = n_usable_cpus()
            try:
                self._session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
            except Exception as error:  # onnxruntime's errors have no other common base
                raise TeacherError(f"The ONNX graph of {name} can't be opened: {first_line(error)}") from error
            size_bytes = sum(part.stat().st_size for part in graph.parent.glob("model.onnx*"))
        self._inputs = [node.name for node in self._session.get_inputs()]
        if unknown := sorted(set(self._inputs) - set(self._model.preprocess(["width"]))):
            raise TeacherError(
                f"The ONNX graph of {name} requires {', '.join(unknown)}, which its tokenizer does not return. "
                "Evaluate it as teacher: instead."
            )
        width = self.encode(["width"]).shape[1]
        self.facts = EncoderFacts(name, "teacher", width, "cpu", options.intra_op_num_threads, size_bytes)

    @property
    def prompts(self) -> dict[str, str]:
        """The teacher's prompts, by name."""
        return {name: prompt or "" for name, prompt in (self._model.prompts or {}).items()}

    def encode(self, texts: Sequence[str], batch_size: int = 32, *, prompt: str | None = None) -> NDArray[np.float32]:
        """See `TeacherEncoder`; texts of similar length are batched, as in sentence-transformers."""
        import torch

        texts = well_formed(checked_texts(texts))
        if prompt is None:
            prompt = self.prompts.get(self._model.default_prompt_name or "", "")
        order = sorted(range(len(texts)), key=lambda place: -len(texts[place]))
        rows: list[NDArray[np.float32]] = [np.empty(0, np.float32)] * len(texts)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            features = self._model.preprocess([prompt + texts[place] for place in batch])
            states = self._session.run(None, {name: features[name].numpy() for name in self._inputs})[0]
            features["token_embeddings"] = torch.from_numpy(states)
            with torch.no_grad():
                for module in list(self._model)[1:]:
                    features = module(features)
            for place, row in zip(batch, features["sentence_embedding"].numpy(), strict=True):
                rows[place] = row
        return np.stack(rows).astype(np.float32, copy=False)


def load_sentence_transformer(
    folder: Path,
    name: str,
    device: str,
    **model_arguments: object,
) -> Any:
    """Load a Sentence Transformer with all its modules, unless they require custom code.

    Args:
        folder: Folder of the model.
        name: Name in messages.
        device: Device to run on.
        model_arguments: Arguments for its transformer.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        RemoteCodeError: The model requires custom code.
        TeacherError: The model can't be loaded.
    """
    code = find_custom_code({}, read_modules(folder, name))
    reject_custom_code(name, code, "Custom code is never run here; choose another teacher.")
    with NeedsExtra(None, "distill"):
        import torch  # noqa: F401  its absence is reported in its own name
        from sentence_transformers import SentenceTransformer
    try:
        # Only safetensors: loading a pickle can run code.
        return SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, **model_arguments},
        )
    except _LOADING_ERRORS as error:
        raise TeacherError(
            f"{name} can't be loaded by sentence-transformers ({first_line(error)}). "
            "Check that it is a complete Sentence Transformer."
        ) from error


def _trace(model: Any, path: Path, name: str) -> None:
    """Write the graph of the teacher's transformer, from token ids to the last hidden state."""
    with NeedsExtra("onnx", "onnx"):
        import onnx  # noqa: F401  torch's exporter needs it
    import torch

    features = model.preprocess(["one", "another, and longer"])
    inputs = [key for key in ("input_ids", "attention_mask", "token_type_ids") if key in features]
    transformer = model[0].auto_model.eval()

    class LastHiddenState(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.transformer = transformer

        def forward(self, *values: torch.Tensor) -> torch.Tensor:
            states: torch.Tensor = self.transformer(**dict(zip(inputs, values, strict=True))).last_hidden_state
            return states

    output = "last_hidden_state"
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                LastHiddenState(),
                tuple(features[key] for key in inputs),
                str(path),
                input_names=inputs,
                output_names=[output],
                dynamic_axes={key: {0: "texts", 1: "tokens"} for key in [*inputs, output]},
                opset_version=_OPSET,
                dynamo=False,
            )
    except Exception as error:  # any error of the model's code during tracing
        raise TeacherError(
            f"{name} can't be converted to an ONNX graph ({first_line(error)}). Evaluate it as teacher: instead."
        ) from error
