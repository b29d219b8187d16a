"""Sentence Transformers, on torch and on ONNX Runtime."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2v_core.encoder.texts import checked_texts, well_formed
from m2v_core.errors import NeedsExtra, TeacherError, first_line
from m2v_core.evaluation.encoders.base import EncoderFacts, disk_bytes
from m2v_core.native.cpus import n_usable_cpus
from m2v_core.storage.teacher_code import own_code, read_modules, refuse_own_code

_LOADING_ERRORS = (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, ImportError)
_OPSET = 17  # the newest that torch's exporter by tracing knows


class TeacherEncoder:
    """A Sentence Transformer with all its modules, as sentence-transformers runs it by default.

    Args:
        folder: Where it lies on disk; see `m2v_core.distillation.teacher.teacher.trusted_folder`.
        name: What people call it; the folder's name when None.
        device: `"cpu"`, `"cuda"`, ...; see `m2v_core.distillation.teacher.teacher.resolve_device`.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        RemoteCodeError: The teacher brings modules with code of their own; no such code is run.
        TeacherError: The folder holds no Sentence Transformer, or a damaged one.
    """

    def __init__(self, folder: str | Path, name: str | None = None, device: str = "cpu") -> None:
        folder = Path(folder)
        name = name or folder.resolve().name
        self._model = load_sentence_transformer(folder, name, device)
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
        """See `Encoder`; by default in batches as large as sentence-transformers' own."""
        embeddings: NDArray[np.float32] = self._model.encode(
            well_formed(checked_texts(texts)), batch_size=batch_size, show_progress_bar=False, prompt=prompt
        )
        return embeddings


class OnnxTeacherEncoder:
    """The same Sentence Transformer with its transformer in ONNX Runtime, on the processor.

    Its graph is the folder's own `onnx/model.onnx` where there is one, and traced by torch otherwise. All else
    (tokenizing, prompt, pooling, normalizing) stays with sentence-transformers. Its own `backend="onnx"` is not used:
    that needs optimum-onnx, which refuses the transformers library from 4.58 on.

    Args:
        folder: As for `TeacherEncoder`.
        name: What people call it; the folder's name, and `(ONNX)`, when None.

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
            except Exception as error:  # onnxruntime's own errors have no common base but this
                raise TeacherError(f"The ONNX graph of {name} can't be opened: {first_line(error)}") from error
            size_bytes = sum(part.stat().st_size for part in graph.parent.glob("model.onnx*"))
        self._inputs = [node.name for node in self._session.get_inputs()]
        if unknown := sorted(set(self._inputs) - set(self._model.preprocess(["width"]))):
            raise TeacherError(
                f"The ONNX graph of {name} asks for {', '.join(unknown)}, which its tokenizer doesn't give. "
                "Evaluate it as teacher: instead."
            )
        width = self.encode(["width"]).shape[1]
        self.facts = EncoderFacts(name, "teacher", width, "cpu", options.intra_op_num_threads, size_bytes)

    @property
    def prompts(self) -> dict[str, str]:
        """The teacher's prompts, by name."""
        return {name: prompt or "" for name, prompt in (self._model.prompts or {}).items()}

    def encode(self, texts: Sequence[str], batch_size: int = 32, *, prompt: str | None = None) -> NDArray[np.float32]:
        """See `TeacherEncoder`; texts of like length are read together, as sentence-transformers does."""
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
    """A Sentence Transformer with all its modules, none of which runs code of its own.

    Args:
        folder: Where it lies.
        name: What people call it.
        device: To run on.
        model_arguments: For its transformer.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        RemoteCodeError: It needs code of its own.
        TeacherError: It can't be loaded.
    """
    code = own_code({}, read_modules(folder, name))
    refuse_own_code(name, code, "It is not run here; choose another teacher.")
    with NeedsExtra(None, "distill"):
        import torch  # noqa: F401  its absence is reported in its own name
        from sentence_transformers import SentenceTransformer
    try:
        # Safetensors alone: a pickle can run code when it is opened.
        return SentenceTransformer(
            str(folder),
            device=device,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, **model_arguments},
        )
    except _LOADING_ERRORS as error:
        raise TeacherError(
            f"{name} can't be loaded by sentence-transformers ({first_line(error)}). "
            "Is it a complete Sentence Transformer?"
        ) from error


def _trace(model: Any, path: Path, name: str) -> None:
    """Write the graph of the teacher's transformer: token ids in, last hidden state out."""
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
    except Exception as error:  # whatever a model's own code raises while it is traced
        raise TeacherError(
            f"{name} can't be turned into an ONNX graph ({first_line(error)}). Evaluate it as teacher: instead."
        ) from error
