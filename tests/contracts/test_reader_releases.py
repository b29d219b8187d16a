"""The releases of each reader that `storage.formats` states: the older ones in environments of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.metadata import distribution
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from packaging.version import Version

from m2v_core.storage.formats import MODEL2VEC, READERS, SENTENCE_TRANSFORMERS, Form, Reader
from tests.packaging.conftest import Environment
from tests.static_models import LINES, static_model

SCRIPT = Path(__file__).parent / "read_models.py"
# What every release reads, then `weights` and `mapping`, then longer texts than usual.
MODELS: dict[str, dict[str, Any]] = {
    "float32": {},
    "float16": {"dtype": "float16"},
    "unnormalized": {"dtype": "float16", "normalize": False},
    "short": {"max_length": 5},
    "int8": {"dtype": "int8"},
    "shared": {"dtype": "float16", "n_clusters": 20},
    "shared int8": {"dtype": "int8", "n_clusters": 20},
    "long": {"max_length": 2000},
    "unlimited": {"max_length": None},
}
# Cut at 5 or 512 tokens, what is left of the one or of both is "sea" alone.
LONG_TEXTS = [" ".join(["sea"] * n_tokens + ["the"] * n_tokens) for n_tokens in (5, 512)]


class Saved(NamedTuple):
    folder: Path
    forms: dict[str, Form]
    embeddings: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Small models of every form, and our embeddings of texts that every reader should agree on."""
    folder = tmp_path_factory.mktemp("models")
    texts, forms, embeddings = {}, {}, {}
    for name, arguments in MODELS.items():
        model = static_model("WordPiece", **arguments)
        model.save_pretrained(folder / name)
        # Without normalizing, readers count the unknown tokens that we leave out.
        unknown = ["\U0001f984", "the \U0001f984 fox"] if model.normalize else []
        # Other readers cut tokens alone; we cut characters too, which shortens whole lines at 5 tokens.
        lines = () if name == "short" else LINES
        texts[name] = [*lines, "the", "", *LONG_TEXTS, *unknown]
        forms[name] = Form.of(type(model).from_pretrained(folder / name).stored())
        embeddings[name] = model.encode(texts[name])
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    return Saved(folder, forms, embeddings)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """An environment with this one's torch, which takes minutes to download, and nothing else."""
    made = Environment(tmp_path / "environment")
    information = next(file for file in distribution("torch").files or () if file.name == "METADATA").locate().parent
    for path in (information, *(information.parent / name for name in ("torch", "torchgen", "functorch"))):
        if path.is_dir():
            (made.site_packages / path.name).symlink_to(path)
    return made


def read_in(environment: Environment, requirement: str, *arguments: str | Path) -> tuple[str, str]:
    """The release installed for a requirement, and what the script printed there."""
    package = requirement.partition("==")[0]
    torch = ["torch"] if package == SENTENCE_TRANSFORMERS.package else []
    environment.pip("install", requirement, *torch, variables=environment.variables)
    command = f"from importlib.metadata import version; print(version({package!r}))"
    return environment.run("python", "-c", command).stdout.strip(), environment.run("python", *arguments).stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reader", "release"),
    [
        *((reader, f"{reader.oldest}.*") for reader in READERS),
        # The last ones that lack what `oldest_with_weights` and `oldest_for_long_texts` state.
        (SENTENCE_TRANSFORMERS, "6.1.*"),
        (MODEL2VEC, "0.9.*"),
        *((reader, None) for reader in READERS),
    ],
    ids=lambda value: value.package if isinstance(value, Reader) else value or "installed",
)
def test_exactly_the_stated_releases_read_a_form(
    saved: Saved, request: pytest.FixtureRequest, tmp_path: Path, reader: Reader, release: str | None
) -> None:
    output = tmp_path / "read.npz"
    arguments = (SCRIPT, reader.package, saved.folder, output)
    if release is None:  # the newest one supported, which is installed here
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        version, log = Version(installed_version(reader.package)), done.stdout
    else:
        environment = request.getfixturevalue("environment")
        found, log = read_in(environment, f"{reader.package}=={release}", *arguments)
        version = Version(found)
    read = dict(np.load(output))
    for name, form in saved.forms.items():
        ours = saved.embeddings[name]
        theirs = read.get(f"{name} in float32" if reader is SENTENCE_TRANSFORMERS and form.is_converted else name)
        # float16 rows are averaged in float16 by some; unnormalized ones have lengths up to 20.
        is_right = theirs is not None and bool(np.allclose(theirs, ours, atol=2e-3 if form.normalize else 4e-2))
        oldest = form.oldest_release(reader)
        assert is_right == (oldest is not None and version >= Version(oldest)), f"{name} in {version}: {log}"
        if reader is SENTENCE_TRANSFORMERS and is_right:
            # Once this fails for the newest release, its float16 is safe, and cards need not convert for it.
            assert np.isnan(read[name]).any() == form.is_converted, name
