"""Settings of a distillation: one validation for all interfaces."""

from __future__ import annotations

import inspect
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2v_core import cli, distill, distill_from_model
from m2v_core.distillation.calibration.dictionary import N_LINES
from m2v_core.distillation.preflight import plan
from m2v_core.distillation.settings import CHOICES, DEFAULTS, SETTING_NAMES, DistillSettings
from m2v_core.errors import InputError
from m2v_core.studio.jobs.kinds import KINDS
from m2v_core.studio.jobs.store import JobSpec, JobStore
from pages.components import distill_settings

REFUSED = {
    "recipe": ["best", "", None, 1],
    "pca_dims": [0, -1, 1.5, 0.0, "256", True],
    "use_subword": ["yes", None, 1],
    "token_remove_pattern": ["[", "(?P<x", "*", 3],
    "pooling": ["max", None],
    "weighting": ["tfidf", None],
    "sif_coefficient": [0, 1, 5, -1e-4, float("nan"), "1e-4", True],
    "apply_zipf": ["no", None],
    "quantize_to": ["float64", None],
    "vocabulary_quantization": [0, -5, 2.5, "10", True],
    "prompt_name": ["", 3],
    "dictionary": ["german", None, True],
    "effort": ["fast", "", True],
    "vocabulary_size": [0, -5, 2.5, "many", "0MB", "40GB", True, None],
}


def test_every_setting_has_invalid_values():
    assert set(REFUSED) == set(SETTING_NAMES)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_an_invalid_setting_is_named_by_all_interfaces_before_any_work(name, value, tmp_path):
    with pytest.raises(InputError, match=r"\S") as refusal:
        DistillSettings(**{name: value})
    assert repr(value) in str(refusal.value)
    # The teacher does not exist, so loading it would raise another error.
    with pytest.raises(InputError) as of_distill:
        distill("/nonexistent/teacher", **{name: value})
    assert str(of_distill.value) == str(refusal.value)
    if isinstance(value, float) and np.isnan(value):
        return  # no JSON
    with JobStore(tmp_path) as store:
        with pytest.raises(InputError) as of_job:
            store.submit(JobSpec("distill", {"model_name": "/nonexistent/teacher", name: value}, title="x"), "owner")
        assert str(of_job.value) == str(refusal.value)
        assert store.list_jobs("owner") == []


@pytest.mark.parametrize("recipe", ["model2vec", "fast"])
def test_a_recipe_without_bags_has_no_effort(recipe, tmp_path):
    for effort in CHOICES["effort"]:
        with pytest.raises(InputError, match=f"effort is '{effort}', which applies only to recipe=") as refusal:
            DistillSettings(recipe=recipe, effort=effort)
        with pytest.raises(InputError) as of_distill:
            distill("/nonexistent/teacher", recipe=recipe, effort=effort)
        assert str(of_distill.value) == str(refusal.value)
    with JobStore(tmp_path) as store:
        spec = JobSpec("distill", {"model_name": "/nonexistent/teacher", "recipe": recipe, "effort": "best"})
        with pytest.raises(InputError, match="omit effort"):
            store.submit(spec, "owner")
        assert store.list_jobs("owner") == []


def test_more_effort_uses_more_texts():
    limits = [vars(DistillSettings(effort=effort).limits) for effort in CHOICES["effort"]]
    for name in limits[0]:
        assert limits[0][name] < limits[1][name] < limits[2][name]
    assert DistillSettings().limits == DistillSettings(effort="best").limits
    assert limits[2]["n_dictionary_lines"] == N_LINES


def test_a_truncated_corpus_is_reported():
    quick, best = DistillSettings(effort="quick"), DistillSettings()
    most = quick.limits.n_corpus_texts
    assert quick.corpus_note(most) is None
    assert f"{most + 1:,} distinct texts; {most:,} of them are used, evenly spaced. With effort='best'" in (
        quick.corpus_note(most + 1)
    )
    assert best.corpus_note(250_000).endswith("100,000 of them are used, evenly spaced.")


@pytest.mark.parametrize("function", [distill, distill_from_model])
def test_distill_takes_every_setting_with_its_default(function):
    parameters = inspect.signature(function).parameters
    assert {name: parameters[name].default for name in SETTING_NAMES} == {
        name: getattr(DEFAULTS, name) for name in SETTING_NAMES
    }


def test_plan_has_the_same_defaults():
    parameters = inspect.signature(plan).parameters
    shared = [name for name in SETTING_NAMES if name in parameters]
    assert shared and all(parameters[name].default == getattr(DEFAULTS, name) for name in shared)


def test_a_job_takes_every_setting():
    assert set(SETTING_NAMES) <= KINDS["distill"].parameters


def settings() -> st.SearchStrategy[DistillSettings]:
    def made(**chosen):
        if chosen["recipe"] == "model2vec":  # which has no dictionary
            chosen["dictionary"] = "none"
        if chosen["recipe"] != "calibrated":  # which have none to choose
            chosen["effort"] = None
        return DistillSettings(**chosen)

    return st.builds(
        made,
        **{name: st.sampled_from(choices) for name, choices in CHOICES.items()},
        pca_dims=st.one_of(
            st.none(), st.just("auto"), st.integers(1, 4096), st.floats(0, 1, exclude_min=True, exclude_max=True)
        ),
        use_subword=st.booleans(),
        apply_zipf=st.booleans(),
        token_remove_pattern=st.one_of(st.none(), st.just("^x")),
        sif_coefficient=st.one_of(st.none(), st.floats(0, 1, exclude_min=True, exclude_max=True)),
        vocabulary_quantization=st.one_of(st.none(), st.integers(1, 100_000)),
        prompt_name=st.one_of(st.none(), st.just("query")),
        vocabulary_size=st.one_of(st.integers(1, 1_000_000), st.sampled_from(["40MB", "2.5 mb"])),
    )


@given(settings())
def test_settings_survive_json(made):
    assert DistillSettings.from_dict(json.loads(json.dumps(made.to_dict()))) == made


def test_numpy_numbers_become_json():
    made = DistillSettings(pca_dims=np.int64(64), sif_coefficient=np.float32(0.001))
    assert json.loads(json.dumps(made.to_dict()))["pca_dims"] == 64


def test_an_unknown_setting_is_rejected():
    with pytest.raises(InputError, match="'dims'.*pca_dims"):
        DistillSettings.from_dict({"dims": 256})


def test_the_command_has_every_setting():
    options = {option.name: option.to_info_dict() for option in cli.app.commands["distill"].params}
    for name in SETTING_NAMES:
        default = getattr(DEFAULTS, name)
        assert options[name]["default"] == default or default is None, name
        if name in CHOICES:
            assert tuple(options[name]["type"]["choices"]) == CHOICES[name]


def test_the_form_of_the_app_has_the_defaults():
    submitted = distill_settings.restored_settings({"model_name": "teacher"})
    assert submitted | {"sif_coefficient": "0.0001"} == distill_settings.DEFAULTS
    form = distill_settings.DEFAULTS
    assert distill_settings.parse_dims(form["dims"]) == DEFAULTS.pca_dims
    assert distill_settings.parse_coefficient(form["sif_coefficient"]) == DEFAULTS.sif_coefficient
    assert distill_settings.parse_clusters(form["clusters"]) == DEFAULTS.vocabulary_quantization
    assert distill_settings.parse_pattern(form["remove_pattern"]) == DEFAULTS.token_remove_pattern
    assert distill_settings.parse_size("") == DEFAULTS.vocabulary_size
    assert [form[name] for name in ("weighting", "pooling", "precision", "recipe", "dictionary")] == [
        *(DEFAULTS.weighting, DEFAULTS.pooling, DEFAULTS.quantize_to, DEFAULTS.recipe, DEFAULTS.dictionary)
    ]


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("weighting", distill_settings.WEIGHTINGS),
        ("pooling", distill_settings.POOLINGS),
        ("quantize_to", distill_settings.PRECISIONS),
        ("recipe", distill_settings.RECIPES),
        ("dictionary", distill_settings.DICTIONARIES),
        ("effort", distill_settings.EFFORTS),
    ],
)
def test_the_form_of_the_app_has_every_choice(name, choices):
    assert {value for _, value in choices} | {"none"} == {*CHOICES[name], "none"}


def test_a_model_contains_its_settings(build_teacher_once):
    made = distill(str(build_teacher_once("wordpiece")), recipe="fast", pca_dims=8, device="cpu")
    stated = {name: made.config["m2v"][name] for name in SETTING_NAMES}
    assert DistillSettings.from_dict(stated) == DistillSettings(recipe="fast", pca_dims=8)
