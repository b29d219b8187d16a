"""Rule 4: nothing that a repository or an upload brings is run."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from m2v_core.errors import M2VError
from m2v_core.model import StaticModel
from m2v_core.studio.library import Library
from tests.attacks.space import Stranger, marked_model
from tests.hub.server import LoopbackHub

pytest.importorskip("torch")

Teachers = Callable[[str], Path]


class Touch:
    """What leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def mark(folder: Path) -> Path:
    return folder / "EXECUTED"


def pickled(folder: Path, copied: Path, decoy: bool) -> Path:
    """A model whose weights are a pickle that runs code; with a harmless safetensors file beside it, or none."""
    shutil.copytree(copied, folder)
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Touch(mark(folder))))
    if decoy:
        marked_model().save_pretrained(folder / "decoy")
        (folder / "decoy" / "model.safetensors").rename(folder / "adapter.safetensors")
        shutil.rmtree(folder / "decoy")
    return folder


def test_the_pickle_would_run(tmp_path: Path) -> None:
    """The control: opened carelessly, it leaves its mark."""
    pickle.loads(pickle.dumps(Touch(mark(tmp_path))))
    assert mark(tmp_path).exists()


@pytest.mark.parametrize("decoy", [False, True])
def test_a_pickle_is_no_teacher(
    session_hub: LoopbackHub, build_teacher_once: Teachers, tmp_path: Path, decoy: bool
) -> None:
    from m2v_core.distillation.pipeline import distill
    from m2v_core.evaluation.encoders import TeacherEncoder

    folder = pickled(tmp_path / "pickled", build_teacher_once("wordpiece"), decoy)
    name = f"evil/pickled-{decoy}".lower()
    session_hub.add(name, folder)
    for teacher in (str(folder), name):
        with pytest.raises(M2VError, match=r"no model\.safetensors"):
            distill(teacher)
    with pytest.raises(M2VError, match="can't be loaded"):
        TeacherEncoder(folder, name)
    assert not mark(folder).exists()
    assert not [path for path in session_hub.paths() if path.endswith(".bin")]


def test_a_pickle_is_no_model(session_hub: LoopbackHub, tmp_path: Path) -> None:
    marked_model().save_pretrained(tmp_path / "model")
    folder = pickled(tmp_path / "pickled", tmp_path / "model", decoy=False)
    session_hub.add("evil/pickled-model", folder)
    library = Library(tmp_path / "library")
    for add in (
        lambda: library.add_from_folder(folder, "ada"),
        lambda: library.add_from_files({path.name: path for path in folder.iterdir()}, "ada"),
        lambda: library.add_from_hub("evil/pickled-model", "ada"),
        lambda: StaticModel.from_pretrained(str(folder)),
        lambda: StaticModel.from_pretrained("evil/pickled-model"),
    ):
        with pytest.raises(M2VError):
            add()
    assert not mark(folder).exists()
    assert not [path for path in session_hub.paths() if path.endswith(".bin")]


def with_code(folder: Path, copied: Path) -> Path:
    """A teacher of a well-known kind that brings code in every place where a library looks for some."""
    shutil.copytree(copied, folder)
    code = f"from pathlib import Path\n\nPath({str(mark(folder))!r}).touch()\n\nraise ImportError\n"
    for name in ("evil.py", "modeling_bert.py", "tokenization_bert.py", "configuration_bert.py"):
        (folder / name).write_text(code)

    def change(name: str, **changes: Any) -> None:
        value = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(value | changes))

    change("config.json", auto_map={"AutoConfig": "evil.Config", "AutoModel": "evil.Model"})
    change("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Slow", "evil.Fast"]})
    trust = {"trust_remote_code": True}
    change("sentence_bert_config.json", model_args=trust, tokenizer_args=trust, config_args=trust, **trust)
    return folder


def test_code_of_a_known_kind_is_left_alone(
    session_hub: LoopbackHub, build_teacher_once: Teachers, tmp_path: Path
) -> None:
    from m2v_core.distillation.pipeline import distill
    from m2v_core.distillation.teacher.teacher import trusted_folder
    from m2v_core.evaluation.encoders import TeacherEncoder

    folder = with_code(tmp_path / "coded", build_teacher_once("wordpiece"))
    session_hub.add("evil/coded", folder)
    for teacher in (str(folder), "evil/coded"):
        try:
            assert distill(teacher, ["banana"], use_subword=False, pca_dims=None).dim == 48
            assert TeacherEncoder(trusted_folder(teacher), teacher).encode(["banana"]).shape == (1, 48)
        except M2VError:  # to refuse it is as good as to do without
            pass
        assert not mark(folder).exists()


@pytest.mark.parametrize("kind", ["custom-code", "custom-module"])
def test_what_asks_for_code_stays_out(session_hub: LoopbackHub, broken_teacher: Teachers, kind: str) -> None:
    from m2v_core.distillation.teacher.teacher import trusted_folder
    from m2v_core.evaluation.encoders import TeacherEncoder

    folder = broken_teacher(kind)
    session_hub.add(f"evil/{kind}", folder)
    with pytest.raises(M2VError, match="requires custom code"):
        TeacherEncoder(trusted_folder(f"evil/{kind}"), kind)
    assert not mark(folder).exists()


def test_strangers_have_no_switch_for_code(stranger: Stranger) -> None:
    said = stranger.call("distill", stranger.key, "evil/coded", None, {"trust_remote_code": True})
    assert "Unknown setting 'trust_remote_code'" in said
    shown = json.dumps(stranger.config).lower()
    assert "remote" not in shown and "trust" not in shown
