"""Exports a saved model: ZIP archive, ONNX folder, word vectors as text."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from tokenizers import Tokenizer

from m2v_core.errors import InputError, NotFoundError
from m2v_core.storage.atomic import replacing, replacing_file, saving
from m2v_core.storage.formats import CARD, StoredModel
from m2v_core.storage.onnx_graph import OnnxHead, build_onnx

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ExportFormat = Literal["onnx", "word2vec"]

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # date of ZIP entries, so that the same files give the same archive
_INCOMPRESSIBLE = frozenset({".safetensors", ".onnx"})  # weights: deflating takes seconds and saves almost nothing
_PAD_TOKENS = ("[PAD]", "<pad>", "<|endoftext|>", "</s>")
_NO_LIMIT = 10**12  # tokens; transformers needs a number

_ONNX_CARD = """\
---
library_name: transformers.js
pipeline_tag: {task}
tags: [embeddings, static-embeddings, onnx, m2v-studio]
---

# {name}

{javascript}
In Python, with `onnxruntime` and `tokenizers`:

```python
import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file("tokenizer.json")
session = InferenceSession("onnx/model.onnx")
encodings = tokenizer.encode_batch(["A first sentence.", "A second one."])
inputs = {{
    "input_ids": np.array([encoding.ids for encoding in encodings]),
    "attention_mask": np.array([encoding.attention_mask for encoding in encodings]),
}}
[{output}] = session.run(["{output}"], inputs)
```
"""

_EMBED = """\
A static embedding model for ONNX runtimes: a table of token vectors, and their mean.

In JavaScript, with [transformers.js](https://huggingface.co/docs/transformers.js):

```js
import {{ pipeline }} from "@huggingface/transformers";

const extractor = await pipeline("feature-extraction", "{name}");
const embeddings = await extractor(["A first sentence.", "A second one."], {{ pooling: "mean", normalize: true }});
```

For a text without any known token, the pipeline returns NaN, because such a text has no direction. The model's own
output `embeddings`, also named `sentence_embedding`, is zero for it, and is{not_normalized} of unit length otherwise:

```js
import {{ AutoModel, AutoTokenizer }} from "@huggingface/transformers";

const tokenizer = await AutoTokenizer.from_pretrained("{name}");
const model = await AutoModel.from_pretrained("{name}");
const inputs = tokenizer(["A first sentence.", ""], {{ padding: true, truncation: true }});
const {{ embeddings }} = await model(inputs);
```
"""

_CLASSIFY = """\
A text classifier with {n_labels} labels for ONNX runtimes: a table of token vectors, their mean, and a head. {kind}.
The output `probabilities` has a column for each label, and `id2label` in `config.json` names them in this order.

In JavaScript, with [transformers.js](https://huggingface.co/docs/transformers.js):

```js
import {{ pipeline }} from "@huggingface/transformers";

const classifier = await pipeline("text-classification", "{name}");
const labels = await classifier(["A first sentence.", "A second one."]); // top_k: null gives all labels
```
"""


def write_zip(model_folder: str | Path, zip_path: str | Path, *, card: str | None = None) -> Path:
    """Write an archive with every file of the model, in a folder named after the archive, and return its path.

    The archive is written to a temporary file and renamed, so `zip_path` never contains an incomplete archive.

    Args:
        model_folder: A saved model.
        zip_path: Where to write; an existing archive is replaced. Its folder is created if missing.
        card: Text that replaces the model's README.md; None keeps it.

    Raises:
        NotFoundError: No such model folder.
        SaveError: The archive can't be written.
    """
    model_folder, zip_path = Path(model_folder), Path(zip_path)
    if not model_folder.is_dir():
        raise NotFoundError(f"No model folder at {model_folder}. Save a model there first.")
    with saving(zip_path):
        zip_path.parent.mkdir(parents=True, exist_ok=True)
    with saving(zip_path), replacing_file(zip_path) as unfinished, zipfile.ZipFile(unfinished, "w") as archive:
        for path in sorted(model_folder.rglob("*")):
            if not path.is_file() or (card is not None and path == model_folder / CARD):
                continue
            with path.open("rb") as source:
                _add(archive, source, f"{zip_path.stem}/{path.relative_to(model_folder).as_posix()}")
        if card is not None:
            _add(archive, io.BytesIO(card.encode()), f"{zip_path.stem}/{CARD}")
    return zip_path


def write_onnx(
    stored: StoredModel, folder: str | Path, *, unk_token_id: int | None, head: OnnxHead | None = None
) -> Path:
    """Write a folder that transformers.js and onnxruntime can load, atomically, and return its path.

        onnx/model.onnx         see `onnx_graph.build_onnx`
        tokenizer.json          truncates at the model's `max_length`, pads, adds no special tokens
        tokenizer_config.json   the same for transformers.js
        config.json
        README.md               how to use it

    Texts are truncated at `max_length` tokens. `StaticModel.encode` truncates them at `StaticModel.max_characters`
    first, so the exported model may read slightly more of very long texts.

    Args:
        stored: The model.
        folder: The folder to write; created if missing. Other files in it are left alone.
        unk_token_id: Token excluded from every mean; None if there is none.
        head: Head of a classifier or regression; None for embeddings only.

    Raises:
        InputError: The table is too large for one ONNX file.
        MissingExtraError: onnx is not installed.
        SaveError: The folder can't be written.
    """
    folder = Path(folder)
    graph = build_onnx(stored, unk_token_id, head).SerializeToString()
    tokenizer, pad_token = _padding_tokenizer(stored)
    unk_token = None if unk_token_id is None else stored.tokenizer.id_to_token(unk_token_id)
    texts = {
        "tokenizer.json": tokenizer.to_str(),
        "tokenizer_config.json": _json(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "model_max_length": stored.max_length or _NO_LIMIT,
                "pad_token": pad_token,
                "unk_token": unk_token,
                "model_input_names": ["input_ids", "attention_mask"],
                "clean_up_tokenization_spaces": False,
            }
        ),
        "config.json": _json(
            {
                "model_type": "model2vec",
                "architectures": ["StaticModel"],
                "hidden_size": stored.token_embeddings.shape[1],
                "normalize": stored.normalize,
                "max_length": stored.max_length,
                # In browsers, transformers.js would look for model_quantized.onnx.
                "transformers.js_config": {"dtype": "fp32"},
            }
            | (_label_config(head) if head is not None and head.labels else {})
        ),
        CARD: _onnx_card(folder.absolute().name, stored.normalize, head),
    }
    with replacing(folder, len(graph) + sum(len(text.encode()) for text in texts.values())) as staging:
        (staging / "onnx").mkdir()
        (staging / "onnx" / "model.onnx").write_bytes(graph)
        for name, text in texts.items():
            (staging / name).write_text(text, encoding="utf-8")
    return folder


def write_word2vec(words: Sequence[str], vectors: NDArray[np.float32], path: str | Path) -> Path:
    """Write a text file in word2vec format, which gensim and spaCy read, and return its path.

    The format separates fields with spaces, so whitespace in a word becomes "_": "new york" is `new_york`. If words
    become equal, later ones get additional underscores: a second `new_york` is `new_york_`. Numbers have 7 significant
    digits.

    Args:
        words: Non-empty words.
        vectors: (n_words, dim).
        path: Where to write; an existing file is replaced. Its folder is created if missing.

    Raises:
        InputError: There are no words.
        SaveError: The file can't be written.
    """
    path = Path(path)
    if not words:
        raise InputError(
            "This model's vocabulary contains no whole words, so there is nothing to write. Export it as ONNX."
        )
    form = " ".join(["%.7g"] * vectors.shape[1])
    with saving(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    with saving(path), replacing_file(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="\n") as file:
        file.write(f"{len(words)} {vectors.shape[1]}\n")
        for word, vector in zip(_spaceless(words), vectors, strict=True):
            file.write(f"{word} {form % tuple(vector.tolist())}\n")
    return path


def _add(archive: zipfile.ZipFile, source: IO[bytes], name: str) -> None:
    entry = zipfile.ZipInfo(name, _EARLIEST)
    entry.external_attr = 0o644 << 16
    entry.compress_type = zipfile.ZIP_STORED if Path(name).suffix in _INCOMPRESSIBLE else zipfile.ZIP_DEFLATED
    with archive.open(entry, "w", force_zip64=True) as target:
        shutil.copyfileobj(source, target, 2**20)


def _spaceless(words: Sequence[str]) -> Iterator[str]:
    # Words that need no change keep their spelling, whatever their position.
    changed = ["".join("_" if character.isspace() else character for character in word) for word in words]
    taken = {word for word, other in zip(words, changed, strict=True) if word == other}
    seen: set[str] = set()
    for word, other in zip(words, changed, strict=True):
        while other in seen or (other != word and other in taken):
            other += "_"
        seen.add(other)
        yield other


def _padding_tokenizer(stored: StoredModel) -> tuple[Tokenizer, str]:
    """Return the tokenizer as ONNX runtimes need it, and its padding token: any token works, as padding is masked."""
    spec = json.loads(stored.tokenizer.to_str())
    spec["post_processor"] = None
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    first = min(vocabulary, key=vocabulary.__getitem__)
    pad_token = next((token for token in _PAD_TOKENS if token in vocabulary), first)
    tokenizer.enable_padding(pad_id=vocabulary[pad_token], pad_token=pad_token)
    if stored.max_length is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(stored.max_length)
    return tokenizer, pad_token


def _label_config(head: OnnxHead) -> dict[str, Any]:
    """The entries of `config.json` that describe a head."""
    return {
        # transformers.js only classifies with known model types; it runs the graph whatever the type.
        "model_type": "bert",
        "architectures": ["BertForSequenceClassification"],
        "problem_type": f"{'multi' if head.is_multi_label else 'single'}_label_classification",
        "id2label": {str(number): label for number, label in enumerate(head.labels)},
        "label2id": {label: number for number, label in enumerate(head.labels)},
    }


def _onnx_card(name: str, normalize: bool, head: OnnxHead | None) -> str:
    if head is None or not head.labels:
        task, output = "feature-extraction", "embeddings" if head is None else "predictions"
        javascript = _EMBED.format(name=name, not_normalized="" if normalize else " not")
    else:
        task, output = "text-classification", "probabilities"
        kind = "A text can have any number of labels" if head.is_multi_label else "A text has one label"
        javascript = _CLASSIFY.format(name=name, n_labels=len(head.labels), kind=kind)
    return _ONNX_CARD.format(name=name, task=task, output=output, javascript=javascript)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
