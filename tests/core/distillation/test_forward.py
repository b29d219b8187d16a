"""The faster linear layers return what the teacher's own layers return."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
import transformers

from m2v_core.distillation.teacher import forward
from m2v_core.distillation.teacher.forward import _VARIANTS, _with_linears, embed_sequences
from m2v_core.native.cosines import unit_rows
from m2v_core.progress import ProgressReporter

LENGTH = 9


def bert(has_bias: bool = True) -> transformers.PreTrainedModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    model = transformers.BertModel(transformers.BertConfig(vocab_size=300, **sizes)).eval()
    if not has_bias:
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.bias = None
    return model


def sequences(n: int = 300) -> list[list[int]]:
    return np.random.default_rng(0).integers(300, size=(n, LENGTH)).tolist()


def read(model: transformers.PreTrainedModel, variants: dict[int, str] | None = None) -> np.ndarray:
    reporter = ProgressReporter(None, None)
    return embed_sequences(
        model, "cpu", sequences(), lambda output, _: output.last_hidden_state.mean(dim=1), reporter, variants=variants
    )


@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(("name", "least_cosine"), [("packed", 0.999999), ("in bfloat16", 0.999)])
@torch.inference_mode()
def test_a_variant_returns_the_same_states_and_shares_the_other_weights(name, least_cosine, has_bias):
    model = bert(has_bias)
    before = copy.deepcopy(model.state_dict())
    variant = _with_linears(model, _VARIANTS[name])
    n_linears = sum(type(layer) is torch.nn.Linear for layer in model.modules())
    assert sum(type(layer) is _VARIANTS[name] for layer in variant.modules()) == n_linears
    assert variant.embeddings.word_embeddings.weight is model.embeddings.word_embeddings.weight
    ids = torch.tensor(sequences())
    expected, found = (each(input_ids=ids).last_hidden_state.mean(dim=1).numpy() for each in (model, variant))
    expected, found = (unit_rows(each - each.mean(axis=0)) for each in (expected, found))
    assert (expected * found).sum(axis=1).min() > least_cosine
    assert all(torch.equal(before[name], weight) for name, weight in model.state_dict().items())


@pytest.mark.parametrize("fastest", ["", *_VARIANTS])
def test_the_fastest_variant_with_the_same_vectors_is_used(fastest, monkeypatch):
    monkeypatch.setattr(forward, "_PROBE_PARAMETERS", 0)
    real, used = forward._timed, []

    def timed(model, probe, pool):
        vectors, _ = real(model, probe, pool)
        kind = {type(layer) for layer in model.encoder.modules()}
        name = next((name for name, layer in _VARIANTS.items() if layer in kind), "")
        used.append(name)
        return vectors, 1.0 if name == fastest else 2.0

    monkeypatch.setattr(forward, "_timed", timed)
    model, variants = bert(), {}
    expected = read(copy.deepcopy(model).double()).astype(np.float32)
    found = read(model, variants)
    assert variants == {LENGTH: fastest} and used == ["", *_VARIANTS]
    np.testing.assert_allclose(found, expected, atol=1e-5 if fastest != "in bfloat16" else 2e-2)
    read(model, variants)
    assert len(used) == 1 + len(_VARIANTS)  # the second call has the result of the probe


def test_a_variant_with_other_vectors_is_not_used(monkeypatch):
    class Wrong(torch.nn.Module):
        def __init__(self, linear: torch.nn.Linear) -> None:
            super().__init__()
            self.linear = linear

        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return self.linear(states).relu()

    monkeypatch.setattr(forward, "_PROBE_PARAMETERS", 0)
    monkeypatch.setitem(forward._VARIANTS, "packed", Wrong)
    monkeypatch.delitem(forward._VARIANTS, "in bfloat16")
    real = forward._timed
    monkeypatch.setattr(
        forward, "_timed", lambda model, *rest: (real(model, *rest)[0], 0.5 if model is not teacher else 1.0)
    )
    teacher, variants = bert(), {}
    np.testing.assert_allclose(read(teacher, variants), read(copy.deepcopy(teacher).double()), atol=1e-5)
    assert variants == {LENGTH: ""}
