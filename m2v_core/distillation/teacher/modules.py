"""The modules after the transformer of a Sentence Transformer, and which of them a static model can apply.

Modules that map one vector to one vector (dense layers, layer norms) can be applied to token vectors. Modules that
depend on the whole sequence (CNN, LSTM, word weights) can't.

Source: the module classes and the keys of their config.json are those of
    https://github.com/huggingface/sentence-transformers
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PER_VECTOR = ("Dense", "LayerNorm", "Normalize")
_WITHOUT_EFFECT = ("Transformer", "Pooling", "Dropout")


@dataclass(frozen=True)
class SentenceModules:
    """The modules after a teacher's transformer. Widths are None if the configuration doesn't specify them.

    Attributes:
        applied: Type and path of each module that is applied to token vectors, in order.
        not_applied: Class names of the other modules, in order.
        hidden_dim: Width of the transformer's hidden states.
        token_dim: Width of a token's vector after `applied`.
        output_dim: Width of the teacher's sentence embeddings.
    """

    applied: tuple[tuple[str, str], ...]
    not_applied: tuple[str, ...]
    hidden_dim: int | None
    token_dim: int | None
    output_dim: int | None

    @classmethod
    def of(
        cls,
        modules: Sequence[Mapping[str, str]],
        read_config: Callable[[str], Mapping[str, Any]],
        hidden_dim: int | None,
    ) -> SentenceModules:
        """Classify the modules from their configuration files.

        Args:
            modules: Type and path of each module, from `teacher_code.parse_modules`; empty for a bare transformer.
            read_config: Returns the configuration of the module at a path.
            hidden_dim: Width of the transformer's hidden states; None if unknown.
        """
        applied: list[tuple[str, str]] = []
        not_applied: list[str] = []
        token_dim = output_dim = hidden_dim
        is_same_space = True  # whether a token's vector is a valid input of the next module
        for module in modules:
            name, path = module["type"].rpartition(".")[2], module["path"]
            config = read_config(path)
            if name in _WITHOUT_EFFECT:
                if name == "Pooling" and _n_pooling_modes(config) > 1:
                    not_applied.append(name)
                    is_same_space = False
                    output_dim = None if output_dim is None else output_dim * _n_pooling_modes(config)
                continue
            output_dim = _output_dim(name, config, output_dim)
            if name in _PER_VECTOR and is_same_space:
                applied.append((module["type"], path))
                token_dim = output_dim
            else:
                not_applied.append(name)
                is_same_space = is_same_space and name == "WordWeights"  # which only scales vectors
        while applied and applied[-1][0].endswith(".Normalize"):  # the static model's weights determine the lengths
            applied.pop()
        not_applied = [name for name in not_applied if name != "Normalize"]
        return cls(tuple(applied), tuple(not_applied), hidden_dim, token_dim, output_dim)

    def names_not_applied(self, applies_modules: bool) -> tuple[str, ...]:
        """Class names of the modules that are not part of a model.

        Args:
            applies_modules: Whether the recipe applies modules.
        """
        skipped = () if applies_modules else tuple(name for name in self.names_applied if name != "Normalize")
        return (*skipped, *self.not_applied)

    def model_dim(self, applies_modules: bool) -> int | None:
        """Maximum number of dimensions of a model; None if unknown.

        Args:
            applies_modules: As for `names_not_applied`.
        """
        widths = (self.token_dim if applies_modules else self.hidden_dim, self.output_dim)
        return min((width for width in widths if width is not None), default=None)

    @property
    def names_applied(self) -> tuple[str, ...]:
        """Class names of the modules that are applied, in order."""
        return tuple(name.rpartition(".")[2] for name, _ in self.applied)


def _n_pooling_modes(config: Mapping[str, Any]) -> int:
    """Number of concatenated poolings."""
    mode = config.get("pooling_mode")
    if mode is not None:
        return len(mode) if isinstance(mode, (list, tuple)) else 1
    return sum(key.startswith("pooling_mode_") and is_on is True for key, is_on in config.items()) or 1


def _output_dim(name: str, config: Mapping[str, Any], input_dim: int | None) -> int | None:
    """Width of a module's output."""
    if name == "Dense":
        return _count(config.get("out_features"))
    if name == "CNN":
        channels, kernels = _count(config.get("out_channels")), config.get("kernel_sizes")
        return channels * len(kernels) if channels and isinstance(kernels, list) else None
    if name == "LSTM":
        hidden = _count(config.get("hidden_dim"))
        return hidden and hidden * (2 if config.get("bidirectional", True) else 1)
    return input_dim


def _count(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
