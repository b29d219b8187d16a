"""The releases of each reader in `storage.formats`, the older ones in separate environments."""

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
# Supported by every release; with `weights` and `mapping`; with long texts.
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
# Truncated at 5 or 512 tokens, one or both of these become "sea".
LONG_TEXTS = [" ".join(["sea"] * n_tokens + ["the"] * n_tokens) for n_tokens in (5, 512)]


class Saved(NamedTuple):
    folder: Path
    forms: dict[str, Form]
    embeddings: dict[str, np.ndarray]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Saved:
    """Small models of every form, and our embeddings of texts for which all readers should agree."""
    folder = tmp_path_factory.mktemp("models")
    texts, forms, embeddings = {}, {}, {}
    for name, arguments in MODELS.items():
        model = static_model("WordPiece", **arguments)
        model.save_pretrained(folder / name)
        # Without normalizing, readers count the unknown tokens that we drop.
        unknown = ["\U0001f984", "the \U0001f984 fox"] if model.normalize else []
        # Other readers only truncate tokens; we also truncate characters, which shortens whole lines at 5 tokens.
        lines = () if name == "short" else LINES
        texts[name] = [*lines, "the", "", *LONG_TEXTS, *unknown]
        forms[name] = Form.of(type(model).from_pretrained(folder / name).stored())
        embeddings[name] = model.encode(texts[name])
    (folder / "texts.json").write_text(json.dumps(texts), encoding="utf-8")
    return Saved(folder, forms, embeddings)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A new environment that shares only torch with this one, because downloading it takes minutes."""
    made = Environment(tmp_path / "environment")
    information = next(file for file in distribution("torch").files or () if file.name == "METADATA").locate().parent
    for path in (information, *(information.parent / name for name in ("torch", "torchgen", "functorch"))):
        if path.is_dir():
            (made.site_packages / path.name).symlink_to(path)
    return made


def read_in(environment: Environment, requirement: str, *arguments: str | Path) -> tuple[str, str]:
    """Run the script with a release; return the installed release and the script's output."""
    package = requirement.partition("==")[0]
    torch = ["torch"] if package == SENTENCE_TRANSFORMERS.package else []
    environment.pip("install", requirement, *torch, variables=environment.variables)
    command = f"from importlib.metadata import version; print(version({package!r}))"
    return environment.run("python", "-c", command).stdout.strip(), environment.run("python", *arguments).stdout


# The last releases without the features of `oldest_with_weights` and `oldest_for_long_texts`.
RELEASES_BETWEEN = {SENTENCE_TRANSFORMERS.package: ["6.1.*"], MODEL2VEC.package: ["0.9.*"]}


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.package)
def test_exactly_the_stated_releases_load_a_form(
    saved: Saved, environment: Environment, tmp_path: Path, reader: Reader
) -> None:
    output = tmp_path / "read.npz"
    arguments = (SCRIPT, reader.package, saved.folder, output)
    for release in [f"{reader.oldest}.*", *RELEASES_BETWEEN.get(reader.package, ())]:
        found, log = read_in(environment, f"{reader.package}=={release}", *arguments)
        check_forms(saved, reader, Version(found), output, log)
    # The newest supported release is installed here.
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    check_forms(saved, reader, Version(installed_version(reader.package)), output, done.stdout)


def check_forms(saved: Saved, reader: Reader, version: Version, output: Path, log: str) -> None:
    """Compare what a release read, in `output`, with our embeddings and with what `Form` states; delete `output`."""
    read = dict(np.load(output))
    output.unlink()
    for name, form in saved.forms.items():
        ours = saved.embeddings[name]
        theirs = read.get(f"{name} in float32" if reader is SENTENCE_TRANSFORMERS and form.is_converted else name)
        # Some average float16 rows in float16; unnormalized rows have lengths up to 20.
        is_right = theirs is not None and bool(np.allclose(theirs, ours, atol=2e-3 if form.normalize else 4e-2))
        oldest = form.oldest_release(reader)
        assert is_right == (oldest is not None and version >= Version(oldest)), f"{name} in {version}: {log}"
        if reader is SENTENCE_TRANSFORMERS and is_right:
            # When this fails for the newest release, its float16 is correct, and cards need not convert for it.
            assert np.isnan(read[name]).any() == form.is_converted, name
