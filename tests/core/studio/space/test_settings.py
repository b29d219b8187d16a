"""Validation of `spaces.yaml`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from m2v_core.distillation import preflight
from m2v_core.errors import InputError, LimitError, NotFoundError
from m2v_core.model import StaticModel
from m2v_core.studio.jobs import JobSpec, JobStore
from m2v_core.studio.jobs.kinds import WorkOrder
from m2v_core.studio.space.settings import SETTINGS_FILE, Limits, current_limits, load_settings
from m2v_core.studio.work.access import check_teacher
from m2v_core.studio.work.distilling import distill
from tests.hub.server import LoopbackHub

RAW = yaml.safe_load(SETTINGS_FILE.read_text(encoding="utf-8"))


def written(folder: Path, raw: object) -> Path:
    path = folder / "spaces.yaml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    return path


def test_the_file_of_this_checkout() -> None:
    settings = load_settings()
    assert settings.title == RAW["title"]
    assert settings.space == Limits(**RAW["limits"]["space"])
    assert settings.laptop == Limits(**RAW["limits"]["laptop"])


def test_public_limits_are_at_most_the_local_ones() -> None:
    settings = load_settings()
    for field in fields(Limits):
        strangers, oneself = getattr(settings.space, field.name), getattr(settings.laptop, field.name)
        assert strangers is not None, field.name
        assert oneself is None or strangers <= oneself, field.name


def test_which_limits_apply(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load_settings()
    monkeypatch.delenv("SPACE_ID", raising=False)
    assert current_limits() == settings.laptop
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert current_limits() == settings.space


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"title": None}, "title is None; it must be a single-line string"),
        ({"title": "a\nb"}, "must be a single-line string"),
        ({"python_version": 3.11}, "Put numbers in quotes"),
        ({"color_from": "teal"}, "color_from is 'teal'; use one of red"),
        ({"short_description": "x" * 61}, "61 characters; the limit is 60"),
        ({"oauth_scopes": "contribute-repos"}, "it must be a list of strings"),
        ({"colour": "red"}, "has unknown names: colour"),
        ({"limits": None}, "limits must be a mapping"),
        ({"limits": {"space": RAW["limits"]["space"]}}, "limits lacks laptop"),
    ],
)
def test_mistakes_are_reported(change: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_settings(written(tmp_path, RAW | change))


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", None])
def test_limits_can_be_none(value: object, tmp_path: Path) -> None:
    limits = {name: dict(RAW["limits"][name]) for name in ("space", "laptop")}
    limits["space"]["running_jobs"] = value
    with pytest.raises(InputError, match=r"limits: space: running_jobs is .*whole number, 1 or more\.$"):
        load_settings(written(tmp_path, RAW | {"limits": limits}))


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="does not exist"):
        load_settings(tmp_path / "spaces.yaml")
    (tmp_path / "spaces.yaml").write_text("title: [", encoding="utf-8")
    with pytest.raises(InputError, match="is not valid YAML"):
        load_settings(tmp_path / "spaces.yaml")
    with pytest.raises(InputError, match="lacks .*title"):
        load_settings(written(tmp_path, {name: value for name, value in RAW.items() if name != "title"}))


def test_vocabulary_of_one_word_too_many(tmp_path: Path) -> None:
    with JobStore(tmp_path / "jobs", max_lines={"vocabulary": 2}) as store:
        with pytest.raises(LimitError, match="3 entries; the limit here is 2"):
            store.submit(JobSpec("distill", {"model_name": "x"}, {"vocabulary": ["a", "b", "c"]}), "ada")
        assert store.list_jobs("ada") == []


def test_teacher_of_one_parameter_too_many(teacher_folder: Path, tmp_path: Path) -> None:
    n_parameters = preflight.look_up(teacher_folder).n_parameters
    assert n_parameters is not None
    order = WorkOrder({}, {}, {}, tmp_path, tmp_path, tmp_path, lambda event: None, None, n_parameters)  # type: ignore[arg-type]
    check_teacher(order, str(teacher_folder))
    with pytest.raises(ValueError, match=f"limit here is {n_parameters - 1:,}"):
        check_teacher(replace(order, teacher_parameters=n_parameters - 1), str(teacher_folder))


def test_the_checked_commit_of_the_teacher_is_loaded(
    session_hub: LoopbackHub, build_teacher_once: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the repository changes in between."""
    teacher = build_teacher_once("wordpiece")
    checked = session_hub.add("someone/moving-teacher", teacher)
    look_up = preflight.look_up

    def look_up_and_move(*arguments: Any, **settings: Any) -> preflight.TeacherFacts:
        facts = look_up(*arguments, **settings)
        files = {path.name: path.read_bytes() for path in teacher.iterdir() if path.is_file()}
        assert session_hub.add("someone/moving-teacher", files | {"new.txt": b"new"}) != checked
        return facts

    monkeypatch.setattr(preflight, "look_up", look_up_and_move)
    parameters = {"model_name": "someone/moving-teacher", "recipe": "fast", "pca_dims": 16, "device": "cpu"}
    order = WorkOrder(
        parameters, {}, {}, tmp_path / "model", tmp_path, tmp_path, lambda event: None, threading.Event(), 10**9
    )
    distill(order)
    made = StaticModel.from_pretrained(tmp_path / "model")
    assert made.config["m2v"]["teacher_revision"] == checked
