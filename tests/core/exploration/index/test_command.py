"""`m2v index` and `m2v search` on the command line."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from m2v_core import cli


def run(*arguments: object, stdin: str = "") -> tuple[int, str, str]:
    done = CliRunner().invoke(cli.app, list(map(str, arguments)), input=stdin)
    return done.exit_code, done.stdout, done.stderr


def test_index_and_search(vectors):
    code, out, _ = run("index", vectors)
    assert code == 0
    assert "usearch, float16" in out and "of zeros, whose texts have no known token" in out
    assert "nothing, the index was up to date" in run("index", vectors)[1]

    code, out, _ = run("search", vectors, "sea shells", "-k", 3)
    lines = out.splitlines()
    assert code == 0 and len(lines) == 3
    assert lines[0].split()[0] == "1" and ".parquet, row " in lines[0] and "shells" in lines[0]
    assert run("search", vectors / "_index.usearch", "sea shells", "-k", 3)[1] == out

    code, out, _ = run("search", vectors, "sea shells", "-", "-k", 2, "--json", stdin="the fox\n\nnaïve\n")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["query"] for answer in answers] == ["sea shells", "the fox", "naïve"]
    best = answers[2]["hits"][0]
    assert list(best) == ["rank", "text", "similarity", "file", "row", "columns"]
    assert best["columns"] == {"id": best["row"] + 120 * int(best["file"][:2]), "text": best["text"]}

    exact = json.loads(run("search", vectors, "sea", "--exact", "--json")[1])["hits"]
    fast = json.loads(run("search", vectors, "sea", "--json")[1])["hits"]
    assert [hit["similarity"] for hit in fast] == pytest.approx([hit["similarity"] for hit in exact], abs=2e-3)
    code, out, _ = run("search", vectors, "fox", "🦄", "-k", 1)
    assert [line for line in out.splitlines() if not line.startswith(" ")] == ["fox", "🦄", out.splitlines()[-1]]
    assert "the query contains no known token" in out


def test_encode_can_build_the_index(model_folder, encoded_once, tmp_path):
    texts = tmp_path / "texts.txt"
    texts.write_text("the fox\nsea shells\n")
    assert (
        run("encode", "--model", model_folder, "--input", texts, "--output", tmp_path / "v.parquet", "--index")[0] == 0
    )
    assert "sea shells" in run("search", tmp_path / "v.parquet", "sea", "-k", 1)[1]
    arguments = ["--input", encoded_once / "texts", "--output", tmp_path / "v", "--workers", 1, "--index"]
    assert run("encode", "--model", model_folder, *arguments)[0] == 0
    assert (tmp_path / "v" / "_index.json").is_file()
    code, _, error = run("encode", "--model", model_folder, "--input", texts, "--output", tmp_path / "v.npy", "--index")
    assert code == 1 and "--index is for vectors in Parquet" in error and not (tmp_path / "v.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", "absent", "fox"], "absent does not exist"),
        (["search", "VECTORS", "  "], "There is no query"),
        (["search", "VECTORS", "-"], "There is no query"),
        (["search", "VECTORS", "fox", "--model", "absent"], "absent"),
        (["index", "absent"], "absent does not exist"),
        (["index", "VECTORS", "--engine", "faiss", "--dtype", "int8"], "A faiss index supports float32 or float16"),
    ],
)
def test_errors_are_one_line(arguments, message, vectors, monkeypatch):
    monkeypatch.chdir(vectors.parent)
    code, _, error = run(*[str(vectors) if one == "VECTORS" else one for one in arguments])
    (line,) = [line for line in error.splitlines() if line.startswith("Error: ")]
    assert code == 1 and message in line
