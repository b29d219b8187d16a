"""Run the blocks of code of the README and of every page of the documentation.

The blocks of a page run in order, each in a new process, in a folder with the files that the page reads. They use a
local Hub with a small random teacher under each name that the pages use. `tests/contracts/test_integrations.py` runs
`docs/integrations.md`.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import teachers
from tests.core.evaluation.sets import write_sets
from tests.docs.blocks import BLOCKS, ROOT, TEXTS, Block, blocks_of
from tests.hub.server import LoopbackHub, User
from tests.live_app import Server, start_app
from tests.static_models import LINES, static_model

pytestmark = pytest.mark.slow

ELSEWHERE = {
    "docs/integrations.md": "run by tests/contracts/test_integrations.py, which installs the packages",
    "CONTRIBUTING.md": "runs these tests",
}
# tests/test_docs.py checks that the targets and extras exist.
NOT_RUN = ("make ", "pip install ")
TEACHERS = (
    "all-MiniLM-L6-v2",
    "sentence-transformers/all-MiniLM-L6-v2",
    "BAAI/bge-base-en-v1.5",
    "intfloat/e5-mistral-7b-instruct",
)
# Replacements for what a test cannot reach, or what would take minutes.
STAND_INS = {
    " --address auto": "",  # a cluster on this machine
    "s3://bucket/": "",
    "../shared/eval": "tasks",
    "/shared/": "shared/",
    "--shared-rows 4000": "--shared-rows 20",  # fewer than the small model has
    "m2v speed": "m2v speed --seconds 1 --rounds 2",
    "get_tasks(data": 'get_tasks(["PEARL", "WordSim"], data',  # the texts of the others are on the Hub
}
# `make setup` does not install them. Blocks that import one are compiled, not run.
NOT_INSTALLED = ("pyspark",)


def runs(block: Block) -> bool:
    """Whether a test can run anything of a block."""
    is_shell = block.language == "bash"
    return block.language == "python" or (is_shell and any(not line.startswith(NOT_RUN) for line in block.commands))


PAGES = sorted({block.document for block in BLOCKS if runs(block)} - ELSEWHERE.keys())
APP = "http://127.0.0.1:7860"


@pytest.fixture(scope="module")
def hub(build_teacher_once: Callable[[str], Path]) -> Iterator[LoopbackHub]:
    with LoopbackHub() as hub:
        for name in TEACHERS:
            hub.add(name, build_teacher_once("wordpiece"))
        yield hub


@pytest.fixture
def folder(hub: LoopbackHub, tmp_path: Path) -> Path:
    """A folder with the files that the pages read, other than `my-model`."""
    import pyarrow
    from pyarrow import parquet

    folder = tmp_path / "page"
    sentences = teachers.corpus_sentences(1_200)
    words = list(dict.fromkeys(word for line in sentences for word in re.findall("[a-z]+", line.lower())))
    texts = {
        "texts.txt": LINES,
        "queries.txt": LINES[:2],
        "sentences.txt": sentences,
        "my-texts.txt": sentences[:600],
        "vocab.txt": [*words[:150], "heart failure"],
        "million.txt": words[:150],
        "my-pairs.csv": ["score,text,text", *(f"{n % 6},{words[n]},{words[n + 1]}" for n in range(30))],
        "train.tsv": [f"{label}\t{text}" for label in ("sport", "money") for text in (f"a {label} day", label) * 8],
        "test.tsv": ["sport\tthe sport", "money\tthe money"],
        "script.py": ["from model2vec import StaticModel", "StaticModel.from_pretrained('my-model').encode('a')"],
    }
    folder.mkdir()
    for name, lines in texts.items():
        (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "texts").mkdir()
    table = pyarrow.table({"text": list(LINES), "id": list(range(len(LINES)))})
    for path in ("texts.parquet", "texts/0.parquet", "texts/1.parquet"):
        parquet.write_table(table, folder / path)
    (folder / "texts" / "0.jsonl").write_text('{"text": "a fox"}\n', encoding="utf-8")
    hub.add("owner/name", folder / "texts", kind="dataset")
    (folder / "shared").mkdir()
    static_model().save_pretrained(folder / "shared" / "my-model")
    write_sets(folder / "tasks")
    shutil.make_archive(str(folder / "tasks"), "zip", folder / "tasks")
    return folder


@pytest.fixture
def variables(folder: Path, hub: LoopbackHub) -> dict[str, str]:
    """The environment of the commands: this checkout, `m2v` on the path, an account on the Hub of these tests."""
    hub.users["hf_loopback"] = User("your-name", "admin")
    return (
        os.environ
        | hub.environment(folder.parent / "home")
        | {"HF_TOKEN": "hf_loopback", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "0", "PYTHONPATH": str(ROOT)}
        | {"PATH": f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"}
    )


@pytest.fixture
def start(folder: Path, variables: dict[str, str]) -> Iterator[Callable[[str], Server]]:
    """Starts the app with a command; stopped at the end of the test."""
    servers: list[Server] = []

    def start(command: str) -> Server:
        program, *arguments = shlex.split(command)
        path = shutil.which(program, path=variables["PATH"])
        servers.append(start_app(folder.parent / "studio", variables, command=(path, *arguments)))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.mark.parametrize("document", PAGES)
def test_page(document: str, folder: Path, variables: dict[str, str], start: Callable[[str], Server]) -> None:
    if not re.search(r'--save-path my-model$|save_pretrained\("my-model"\)', TEXTS[document], flags=re.MULTILINE):
        static_model().save_pretrained(folder / "my-model")
    address = APP
    for block in blocks_of(document):
        if block.language == "python":
            run([sys.executable, "-c", with_stand_ins(block.code, address)], block, folder, variables)
        elif block.language == "bash":
            for command in block.commands:
                if command == "m2v app":
                    address = start(command).address
                elif not command.startswith(NOT_RUN):
                    run(["bash", "-euc", with_stand_ins(command, address)], block, folder, variables)


def with_stand_ins(code: str, address: str) -> str:
    for written, stand_in in (STAND_INS | {APP: address}).items():
        code = code.replace(written, stand_in)
    return code


def run(command: list[str], block: Block, folder: Path, variables: dict[str, str]) -> None:
    if any(re.search(rf"^(from|import) {name}\b", block.code, flags=re.MULTILINE) for name in NOT_INSTALLED):
        compile(block.code, block.document, "exec")
        return
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=variables, timeout=600)
    assert done.returncode == 0, f"{block.document}:\n{command[-1]}\n{done.stdout}{done.stderr}"
