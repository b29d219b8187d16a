"""Loads models with one package and saves their embeddings; runs in that package's environment, without m2v_core.

Usage: read_models.py PACKAGE FOLDER OUTPUT. FOLDER contains `texts.json`, which lists the texts of each model by the
name of its folder. OUTPUT is an `.npz` of embeddings by name; models that can't be loaded are skipped. For
sentence-transformers there is also `<name> in float32`, after `.float()`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], Any]


def encoders(package: str, folder: Path) -> Iterator[tuple[str, Encode]]:
    if package == "model2vec":
        from model2vec import StaticModel

        yield folder.name, StaticModel.from_pretrained(str(folder)).encode
    elif package == "laghu":
        import laghu

        yield folder.name, laghu.load(str(folder)).encode
    else:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(folder), device="cpu")
        yield folder.name, model.encode
        yield f"{folder.name} in float32", model.float().encode


def main() -> None:
    package, folder, output = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    found = {}
    for name, texts in json.loads((folder / "texts.json").read_text(encoding="utf-8")).items():
        try:
            for key, encode in encoders(package, folder / name):
                found[key] = np.asarray(encode(texts), dtype=np.float32)
        except ImportError:
            raise
        except Exception as error:
            sys.stdout.write(f"{name}: {type(error).__name__}: {error}\n")
    np.savez(output, **found)


if __name__ == "__main__":
    main()
