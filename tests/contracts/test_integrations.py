"""The snippets of docs/integrations.md, run unchanged with the real packages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.packaging.conftest import Environment
from tests.static_models import LINES, static_model

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "integrations.md").read_text(encoding="utf-8")
SECTIONS = {
    section.partition("\n")[0]: dict(re.findall(r"^```(\w+)\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL))
    for section in re.split("^## ", PAGE, flags=re.MULTILINE)[1:]
}
ALL = "M2V_INTEGRATIONS"  # set by `make integrations`

# Runs before each check: compares with the result of `StaticModel.encode`.
_EXPECTED = f"""
import subprocess, sys
import numpy as np
from m2v_core import StaticModel

TEXTS = {[*LINES, "the", "unbelievable words nobody has listed"]!r}
ours = StaticModel.from_pretrained("my-model")

def same(theirs, texts=TEXTS, model=ours):
    np.testing.assert_allclose(np.asarray(theirs, dtype=np.float32), model.encode(texts), atol=1e-5)
"""


@dataclass(frozen=True)
class Package:
    """How to run and check the snippet of a section.

    Attributes:
        requirements: Packages to install in addition to those of the test environment.
        check: Code that runs after the snippet, with its names.
        is_quick: Whether to run it with the other slow tests.
        models: Arguments of `static_model` for each model to run the snippet with.
    """

    requirements: tuple[str, ...]
    check: str
    is_quick: bool = False
    models: tuple[dict[str, Any], ...] = ({},)


PACKAGES = {
    "model2vec": Package(("model2vec~=0.10",), "same(model.encode(TEXTS))", is_quick=True),
    "LangChain": Package(
        ("langchain-core~=1.8",),
        """
        same(embeddings.embed_documents(TEXTS))
        same(embeddings.embed_query("a fox"), "a fox")
        same(M2VEmbeddings(ours).embed_documents(TEXTS))
        """,
        is_quick=True,
    ),
    "LlamaIndex": Package(
        ("llama-index-core~=0.14.25", "llama-index-embeddings-huggingface~=0.8"),
        """
        import asyncio
        same(embedding.get_text_embedding_batch(TEXTS))
        same(embedding.get_query_embedding("a fox"), "a fox")
        same(asyncio.run(embedding.aget_query_embedding("a fox")), "a fox")
        same(M2VEmbedding.from_dict(embedding.to_dict()).get_text_embedding("a fox"), "a fox")
        # When this fails, a LlamaIndex release can load static models, and the page should show it.
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding
        try:
            HuggingFaceEmbedding("my-model")
        except ValueError as error:
            assert "finite" in str(error)
        else:
            raise AssertionError
        """,
        is_quick=True,
    ),
    "Haystack": Package(
        ("haystack-ai~=3.4",),
        """
        stored = {document.content: document.embedding for document in store.filter_documents()}
        same(list(stored.values()), list(stored))
        same(reopened.get_component("embedder").run("a fox")["embedding"], "a fox")
        assert documents[0].embedding is None
        same(M2VDocumentEmbedder("my-model").run([Document(content=None)])["documents"][0].embedding, "")
        """,
        is_quick=True,
    ),
    "Chroma": Package(
        ("chromadb~=1.5",),
        """
        stored = reopened.get(include=["embeddings", "documents"])
        same(stored["embeddings"], stored["documents"])
        [[similarity]] = 1 - np.array(found["distances"])
        expected = ours.encode("a fox") @ ours.encode(found["documents"][0][0])
        np.testing.assert_allclose(similarity, expected, atol=1e-5)
        # Another process, in another folder.
        code = "import chromadb, m2v_core.integrations.chroma; "
        code += "collection = chromadb.PersistentClient('models/my-database').get_collection('texts'); "
        code += "print(collection.query(query_texts=['a fox'], n_results=1)['ids'][0][0])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="..")
        assert done.stdout.split() == found["ids"][0], done.stderr
        """,
        is_quick=True,
    ),
    "Sentence Transformers": Package(
        ("accelerate>=1.10",),
        """
        texts = [*TEXTS, ""] if tuned.normalize else TEXTS
        if tuned.max_length is None:
            texts += [" ".join(TEXTS * 20)]
        elif tuned.max_length < 100:  # we also truncate characters
            texts = ["!,.,!.!!,..,"]
        same(model.encode(texts), texts, tuned)
        assert np.abs(tuned.encode("rivers") - ours.encode("rivers")).max() > 1e-3
        """,
        is_quick=True,
        models=(
            {"dtype": "float16"},
            {"dtype": "int8", "n_clusters": 30, "normalize": False},
            {"max_length": 5},
            {"max_length": None},
        ),
    ),
    "Qdrant": Package(
        ("qdrant-client~=1.20",),
        """
        assert best.payload["text"] == texts[int((model.encode(texts) @ model.encode("a fox")).argmax())]
        expected = model.encode("a fox") @ model.encode(best.payload["text"])
        np.testing.assert_allclose(best.score, expected, atol=1e-5)
        """,
        is_quick=True,
    ),
    "scikit-learn": Package(
        (),
        """
        expected = LogisticRegression().fit(model.encode(TEXTS[:2]), ["a", "b"]).predict_proba(model.encode(TEXTS))
        classifier.fit(TEXTS[:2], ["a", "b"])
        np.testing.assert_allclose(classifier.predict_proba(TEXTS), expected)
        """,
        is_quick=True,
    ),
    "FastAPI": Package(
        ("fastapi", "httpx"),
        """
        from fastapi.testclient import TestClient
        same(TestClient(app).post("/embeddings", json=TEXTS).json())
        """,
        is_quick=True,
    ),
    "Packages that import model2vec": Package(
        ("keybert~=0.9", "bertopic~=0.17", "chonkie~=1.7", "txtai~=9.14"),
        """
        from bertopic.backend._utils import select_backend
        from chonkie.embeddings import Model2VecEmbeddings
        from txtai import Embeddings
        import model2vec
        model = model2vec.StaticModel.from_pretrained("my-model")
        used = {
            keywords.model.embedding_model: keywords.model.embed,
            select_backend(model).embedding_model: select_backend(model).embed,
            (chonkie := Model2VecEmbeddings("my-model")).model: chonkie.embed_batch,
            (txtai := Embeddings(path="my-model")).model.model: txtai.batchtransform,
        }
        for opened, embed in used.items():
            assert type(opened).__module__.startswith("m2v_core.compat")
            same(embed(TEXTS))
        """,
    ),
    "KeyBERT": Package(
        ("keybert~=0.9",),
        """
        same(keywords.model.embed(TEXTS))
        same(KeyBERT("my-model").model.embed(TEXTS))
        """,
    ),
    "BERTopic": Package(
        ("bertopic~=0.17",),
        """
        same(topics.embedding_model.embed_documents(TEXTS))
        assert len(topic_of_each_text) == len(texts)
        topics = BERTopic(embedding_model="my-model", umap_model=PCA(2), hdbscan_model=KMeans(2))
        topics.fit_transform(texts)
        same(topics.embedding_model.embed_documents(TEXTS))
        """,
    ),
    "semhash": Package(
        ("semhash~=0.5",),
        """
        same(index.index.vectors, records)
        assert deduplicated.selected == records[:2]
        """,
        is_quick=True,
    ),
    "vicinity": Package(
        ("vicinity~=0.4",),
        "np.testing.assert_allclose(1 - distance, ours.encode(best) @ ours.encode('a fox'), atol=1e-5)",
        is_quick=True,
    ),
    "Chonkie": Package(("chonkie~=1.7",), "same(embeddings.embed_batch(TEXTS))", is_quick=True),
    "txtai": Package(
        ("txtai~=9.14",),
        """
        same(embeddings.batchtransform(TEXTS))
        embeddings.save("my-index")
        reopened = Embeddings()
        reopened.load("my-index")
        assert reopened.search("a fox", limit=1) == [best]
        """,
    ),
    "spaCy": Package(
        ("spacy~=3.8",),
        """
        same([nlp(text).vector for text in TEXTS])
        same(doc[3].vector, "fox")
        same(doc[1:3].vector, "quick brown")
        expected = ours.encode(doc.text) @ ours.encode("Rivers run to the sea.")
        np.testing.assert_allclose(doc.similarity(nlp("Rivers run to the sea.")), expected, atol=1e-5)
        """,
    ),
    "gensim": Package(
        (), "np.testing.assert_allclose(words['fox'], ours.encode('fox', normalize=False), atol=1e-5)", is_quick=True
    ),
}


def test_every_section_is_run() -> None:
    assert {name for name, code in SECTIONS.items() if "python" in code} == PACKAGES.keys()
    linked = re.findall(r"^\| \[([^\]]+)\]", PAGE, flags=re.MULTILINE)
    assert linked == list(SECTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("name", PACKAGES)
def test_snippet(tmp_path: Path, name: str) -> None:
    package = PACKAGES[name]
    if not (package.is_quick or os.environ.get(ALL)):
        pytest.skip("takes long to install or to import; run it with make integrations")
    environment = Environment(tmp_path / "environment")
    # Heavy packages are shared with the test environment; pip treats them as installed.
    paths = [str(ROOT), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (environment.site_packages / "shared.pth").write_text("\n".join(dict.fromkeys(paths)))
    if package.requirements:
        environment.pip("install", "--no-compile", *package.requirements, variables=environment.variables)
    check = re.sub(r"^ {8}", "", package.check, flags=re.MULTILINE)
    # The same code runs again for each model, in one process, because some packages take long to import.
    script = tmp_path / "run.py"
    code = f"{SECTIONS[name]['python']}\n{_EXPECTED}\n{check}"
    script.write_text(
        "import os, sys\n\nfor folder in sys.argv[1:]:\n    os.chdir(folder)\n"
        f"    exec(compile({code!r}, 'docs/integrations.md', 'exec'), {{'__name__': '__main__'}})\n",
        encoding="utf-8",
    )
    folders = []
    for number, arguments in enumerate(package.models):
        folders.append(tmp_path / str(number) / "models")
        static_model("WordPiece", **arguments).save_pretrained(folders[-1] / "my-model")
    done = subprocess.run(
        [environment.python, script, *folders],
        capture_output=True,
        text=True,
        env=environment.variables | {"HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_snippet_of_transformers_js(tmp_path: Path, transformers_js: Path) -> None:
    model = static_model("WordPiece")
    model.export(tmp_path / "my-onnx-model", "onnx")
    (tmp_path / "node_modules").symlink_to(transformers_js.parents[1])
    (tmp_path / "snippet.mjs").write_text(SECTIONS["transformers.js"]["js"], encoding="utf-8")
    done = subprocess.run(["node", "snippet.mjs"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(json.loads(done.stdout), model.encode(["Rivers run to the sea."]), atol=1e-5)
