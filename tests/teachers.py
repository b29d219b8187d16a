"""Small teachers with random weights, one for every tokenizer family, laid out as real Sentence Transformers.

Each folder holds what a published teacher holds: `config.json`, `model.safetensors`, `tokenizer.json`,
`tokenizer_config.json`, `modules.json`, the pooling's settings. The tokenizers are trained on the text in
`data/`, then brought to the exact shape (order of special tokens, normalizer, pre-tokenizer, post-processor) that the
family's real `tokenizer.json` has, because that shape is what a distillation stumbles over.
"""

from __future__ import annotations

import base64
import json
import math
import shutil
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers

DATA = Path(__file__).parent / "data"
TRAINING_SENTENCES = 4_000
MAX_TOKENS = 128
LAYERS, HEADS = 2, 4
Json = dict[str, Any]

# What sentencepiece compiled from these rules: white space and zero-width space to a space, full-width ASCII
# to ASCII, fi and fl ligatures, the ellipsis, trade mark, half, superscript two, e + combining acute; soft
# hyphen and U+0001 dropped. XLM-R's own table has the same form and many more rules.
PRECOMPILED_CHARSMAP = zlib.decompress(
    base64.b85decode(
        "c-ke@e@s?Y9LMqZ;mV4VHP=|Va{VwWD=;iGGBUH$GAdIuQ!6VdQZut3YT_>Ngn)=Z1St43EHN}SH8Qj^ZLLwOHvj04wy^roW>)mu"
        ">V4<4z4kfZo%@`7pL@RNVE{0Y<P(QX=siD;;JD23SLSe?nFnW#gp7O`W_^J+l|rV)z#NOy)2NsV&pV9IO(S(IjrcZbw_cyD<@Z)N"
        "896R@t#tD=Wh85BLj!bun})ZH&(a{Btt_3R!8%VvG*sEzwi7NhT`u0=9q5@EvFiw2WBqy`__*;XdFyzz3N%JzH7@zi*We?@<CE*N"
        "Bi_h~=*WuLY;H=Acr7zx!=Q+b+P*mAEp^R{*j5^`H6!9pZSnd}uiIM?@y_9h-R7Q=K8N|XYwpO8*lB&>WW@W<_n7<pBlel^{SeV@"
        "zH42X5m>I&iNMP$?+a9@s3VQC{y?2`t5mC%su>nop(<6Yd2pabP3eJG&Bo6HuapGp)ld{zHzcsWFQVPKwON5RW}8~ITIFv39lnQ&"
        "DpaNQJ?11$mRlQ7({#<yEUogIht1h)bo`iEZ@QHfIc_nZFiSK?ZPxS5`C6cbTBIdfs%1&<B>kb(sb`3*RHIteomxM+SKOp#wI+Sw"
        "x@(etR7bLx+M=!M(su38F74J{b!(q`bU^D|<lulnySa9=>#c;gJ<wVWtJT~IEo%DG_p8PaeZQ)A+@QLR?vH94+#l7Hxj(9MT&+sy"
        "mMis*`+LOqZB`r(#AccGcfEn5hXNn?EC+Q+AM1O6+b8Cy>ec7^LdR2q<IWw^kNR1^=qH`fZ~9%os$YNUZ~dV^^{@WZKRTJ5{0q5="
        "iy6u#WOJ#<>T-|y6<o<x<d92lZZ5;QnmqE3mZe58!b5hg2kbgVaXtCmz-VryfSVY@&5Y$1#&N5M>vqO7!N$6iiQGjYciU9=GKu?`"
        "%oL^+GL`$8#sf^}L1r+MSv+J<J;H1rwVxihkBTWSp?I#H^du!b#T@3^MNc!IXIQ|qEaW-=bza~_7O|Kmyu?yUS;j}5{0|318bt"
    )
)

QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def corpus_sentences(count: int, skip: int = 0) -> list[str]:
    """`count` English sentences from line `skip` on; the tokenizers are trained on the first `TRAINING_SENTENCES`."""
    sentences = (DATA / "sentences.txt").read_text(encoding="utf-8").splitlines()[skip : skip + count]
    assert len(sentences) == count
    return sentences


def udhr_paragraphs() -> list[str]:
    """The Universal Declaration of Human Rights in 17 languages."""
    return [
        line for path in sorted((DATA / "udhr").glob("*.txt")) for line in path.read_text(encoding="utf-8").splitlines()
    ]


def _added(token_id: int, content: str, *, special: bool = True, lstrip: bool = False) -> Json:
    return {
        "id": token_id,
        "content": content,
        "single_word": False,
        "lstrip": lstrip,
        "rstrip": False,
        "normalized": not special,
        "special": special,
    }


def _word_counts(normalizer: Any, pre_tokenizer: Any, texts: list[str]) -> Counter[str]:
    # Each printable ASCII character once, as in any real vocabulary: few sentences hold a "+".
    counts = Counter(word for word, _ in pre_tokenizer.pre_tokenize_str(" ".join(map(chr, range(33, 127)))))
    for text in texts:
        counts.update(word for word, _ in pre_tokenizer.pre_tokenize_str(normalizer.normalize_str(text)))
    return counts


def _frequent_pieces(words: Counter[str], whole: int, partial: int) -> list[tuple[str, bool, int]]:
    """Every character, the most frequent words and the most frequent parts of words.

    The library's own WordPiece and Unigram trainers depend on the order of a hash map; this does not.

    Returns:
        (piece, whether it begins a word, count), characters first, then by falling frequency.
    """
    parts: Counter[tuple[str, bool]] = Counter()
    for word, count in words.items():
        for start, length in product(range(len(word)), range(1, 5)):
            if start + length <= len(word):
                parts[word[start : start + length], start == 0] += count
    characters = {part: parts.pop(part) for part in list(parts) if len(part[0]) == 1}
    begins = Counter({(word, True): count for word, count in words.items() if len(word) > 1})

    def most_frequent(counts: Counter[tuple[str, bool]], limit: int) -> list[tuple[str, bool]]:
        return sorted(counts, key=lambda part: (-counts[part], part))[:limit]

    chosen = dict.fromkeys([*most_frequent(begins, whole), *most_frequent(parts, partial)])
    ranked = sorted(chosen, key=lambda part: (-max(begins[part], parts[part]), part))
    return [
        *((*part, characters[part]) for part in sorted(characters)),
        *((*part, max(begins[part], parts[part])) for part in ranked),
    ]


def _template(left: tuple[str, int] | None, right: tuple[str, int] | None, type_ids: bool = False) -> Json:
    """TemplateProcessing that puts `left` before and `right` after a text."""

    def sandwich(second_type: int) -> list[Json]:
        single: list[Json] = [{"Sequence": {"id": "A", "type_id": 0}}]
        if left:
            single.insert(0, {"SpecialToken": {"id": left[0], "type_id": 0}})
        if right:
            single.append({"SpecialToken": {"id": right[0], "type_id": 0}})
        if second_type < 0:
            return single
        pair = [*single, {"Sequence": {"id": "B", "type_id": second_type}}]
        if right:
            pair.append({"SpecialToken": {"id": right[0], "type_id": second_type}})
        return pair

    return {
        "type": "TemplateProcessing",
        "single": sandwich(-1),
        "pair": sandwich(1 if type_ids else 0),
        "special_tokens": {
            token: {"id": token, "ids": [token_id], "tokens": [token]}
            for token, token_id in filter(None, (left, right))
        },
    }


def _assemble(added_tokens: list[Json], **parts: Json | None) -> Json:
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": sorted(added_tokens, key=lambda token: token["id"]),
        **parts,
    }


def _wordpiece(lowercase: bool) -> Json:
    """BERT's: [PAD], [unused0..], [UNK], [CLS], [SEP], [MASK], pieces; [unused..] are no added tokens."""
    words = _word_counts(
        normalizers.BertNormalizer(lowercase=lowercase),
        pre_tokenizers.BertPreTokenizer(),
        corpus_sentences(TRAINING_SENTENCES),
    )
    pieces = [
        piece if begins else f"##{piece}" for piece, begins, _ in _frequent_pieces(words, whole=1_000, partial=700)
    ]
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    unused = [f"[unused{number}]" for number in range(20)]
    order = ["[PAD]", *unused[:10], *special[1:], *unused[10:], *pieces]
    vocabulary = {token: token_id for token_id, token in enumerate(order)}
    return _assemble(
        [_added(vocabulary[token], token) for token in special],
        normalizer={
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": True,
            "strip_accents": None,
            "lowercase": lowercase,
        },
        pre_tokenizer={"type": "BertPreTokenizer"},
        post_processor=_template(("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"]), type_ids=True),
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        model={
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": vocabulary,
        },
    )


def _unigram() -> Json:
    """XLM-R's: <s> 0, <pad> 1, </s> 2, <unk> 3, pieces of many languages, <mask> last; all in the model."""
    words = _word_counts(
        normalizers.Precompiled(PRECOMPILED_CHARSMAP),
        pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]),
        [*corpus_sentences(TRAINING_SENTENCES), *udhr_paragraphs()],
    )
    counts: Counter[str] = Counter()
    for piece, _, count in _frequent_pieces(words, whole=800, partial=600):
        counts[piece] += count
    total = sum(counts.values())
    special = ("<s>", "<pad>", "</s>", "<unk>")
    vocabulary: list[tuple[str, float]] = [
        *((token, 0.0) for token in special),
        *((piece, math.log(count / total)) for piece, count in counts.items()),
        ("<mask>", 0.0),
    ]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    return _assemble(
        [
            *(_added(token_id, token) for token_id, token in enumerate(special)),
            _added(len(vocabulary) - 1, "<mask>", lstrip=True),
        ],
        normalizer={
            "type": "Precompiled",
            "precompiled_charsmap": base64.b64encode(PRECOMPILED_CHARSMAP).decode("ascii"),
        },
        pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
        post_processor=_template(("<s>", 0), ("</s>", 2)),
        decoder=metaspace,
        model={"type": "Unigram", "unk_id": 3, "vocab": vocabulary, "byte_fallback": False},
    )


def _byte_pairs(vocab_size: int, pre_tokenizer: Any = None, normalizer: Any = None) -> tuple[list[str], list[Any]]:
    """Pieces and merges of a byte-level BPE without special tokens; the 256 bytes come first."""
    trained = Tokenizer(models.BPE())
    if normalizer is not None:
        trained.normalizer = normalizer
    trained.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    trained.train_from_iterator(corpus_sentences(TRAINING_SENTENCES), trainer)
    model = json.loads(trained.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].__getitem__), model["merges"]


def _bpe_model(order: list[str], merges: list[Any]) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
        "vocab": {token: token_id for token_id, token in enumerate(order)},
        "merges": merges,
    }


def _byte_level(add_prefix_space: bool = False, trim_offsets: bool = True, use_regex: bool = True) -> Json:
    return {
        "type": "ByteLevel",
        "add_prefix_space": add_prefix_space,
        "trim_offsets": trim_offsets,
        "use_regex": use_regex,
    }


def _bytelevel() -> Json:
    """RoBERTa's: <s> 0, <pad> 1, </s> 2, <unk> 3 (which the model never yields), pieces, <mask> last."""
    pieces, merges = _byte_pairs(1_600)
    special = ("<s>", "<pad>", "</s>", "<unk>")
    order = [*special, *pieces, "<mask>"]
    return _assemble(
        [
            *(_added(token_id, token) for token_id, token in enumerate(special)),
            _added(len(order) - 1, "<mask>", lstrip=True),
        ],
        normalizer=None,
        pre_tokenizer=_byte_level(),
        post_processor={
            "type": "RobertaProcessing",
            "sep": ["</s>", 2],
            "cls": ["<s>", 0],
            "trim_offsets": True,
            "add_prefix_space": False,
        },
        decoder=_byte_level(add_prefix_space=True),
        model=_bpe_model(order, merges),
    )


def _modernbert() -> Json:
    """ModernBERT's: added tokens at both ends of the vocabulary, with runs of spaces and [unused0..]."""
    pieces, merges = _byte_pairs(1_600, normalizer=normalizers.NFC())
    before = ["|||IP_ADDRESS|||", "<|padding|>"]
    spaces = [" " * width for width in range(24, 1, -1)]
    plain_after = [*spaces, "|||EMAIL_ADDRESS|||", "|||PHONE_NUMBER|||"]
    special_after = ["<|endoftext|>", "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]
    unused = [f"[unused{number}]" for number in range(10)]
    start = len(before) + len(pieces)
    ids = {token: start + offset for offset, token in enumerate([*plain_after, *special_after, *unused])}
    return _assemble(
        [
            _added(0, before[0], special=False),
            _added(1, before[1]),
            *(_added(ids[token], token, special=False) for token in [*plain_after, *unused]),
            *(_added(ids[token], token, lstrip=token == "[MASK]") for token in special_after),
        ],
        normalizer={"type": "NFC"},
        pre_tokenizer=_byte_level(),
        post_processor=_template(("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])),
        decoder=_byte_level(),
        model=_bpe_model([*before, *pieces], merges),
    )


def _decoder() -> Json:
    """Qwen's: no unknown token, special tokens after the pieces, <|endoftext|> appended to every text."""
    split: Json = {"type": "Split", "pattern": {"Regex": QWEN_SPLIT}, "behavior": "Isolated", "invert": False}
    byte_level = _byte_level(trim_offsets=False, use_regex=False)
    pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    pieces, merges = _byte_pairs(1_600, pre_tokenizer, normalizers.NFC())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
    plain = ["<tool_call>", "</tool_call>", "<think>", "</think>"]
    ids = {token: len(pieces) + offset for offset, token in enumerate([*special, *plain])}
    return _assemble(
        [_added(token_id, token, special=token in special) for token, token_id in ids.items()],
        normalizer={"type": "NFC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [split, byte_level]},
        post_processor={
            "type": "Sequence",
            "processors": [byte_level, _template(None, ("<|endoftext|>", ids["<|endoftext|>"]))],
        },
        decoder=byte_level,
        model=_bpe_model(pieces, merges),
    )


_TOKENIZERS: dict[str, Callable[[], Json]] = {
    "wordpiece": lambda: _wordpiece(lowercase=True),
    "wordpiece-cased": lambda: _wordpiece(lowercase=False),
    "unigram": _unigram,
    "bytelevel": _bytelevel,
    "modernbert-like": _modernbert,
    "decoder": _decoder,
}
FAMILIES = tuple(_TOKENIZERS)
UNKNOWN_TOKEN = {
    "wordpiece": "[UNK]",
    "wordpiece-cased": "[UNK]",
    "unigram": "<unk>",
    "bytelevel": "<unk>",
    "modernbert-like": "[UNK]",
    "decoder": None,
}
POOLING = dict.fromkeys(FAMILIES, "mean") | {"modernbert-like": "first", "decoder": "last"}
HAS_POOLER = {"wordpiece", "wordpiece-cased", "unigram", "bytelevel"}


@cache
def tokenizer_json(family: str) -> str:
    """The text of the family's `tokenizer.json`."""
    return json.dumps(_TOKENIZERS[family](), ensure_ascii=False)


def _tokenizer_config(family: str) -> Json:
    bert: Json = {
        "tokenizer_class": "BertTokenizer",
        "do_lower_case": family == "wordpiece",
        "unk_token": "[UNK]",
        "sep_token": "[SEP]",
        "pad_token": "[PAD]",
        "cls_token": "[CLS]",
        "mask_token": "[MASK]",
        "strip_accents": None,
        "tokenize_chinese_chars": True,
    }
    roberta: Json = {
        "bos_token": "<s>",
        "eos_token": "</s>",
        "sep_token": "</s>",
        "cls_token": "<s>",
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "mask_token": {
            "__type": "AddedToken", "content": "<mask>", "lstrip": True, "normalized": False, "rstrip": False,
            "single_word": False,
        },
    }  # fmt: skip
    config = {
        "wordpiece": bert,
        "wordpiece-cased": bert,
        "unigram": {"tokenizer_class": "XLMRobertaTokenizer", **roberta},
        "bytelevel": {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": False, **roberta},
        "modernbert-like": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "unk_token": "[UNK]",
            "sep_token": "[SEP]",
            "pad_token": "[PAD]",
            "cls_token": "[CLS]",
            "mask_token": "[MASK]",
            "model_input_names": ["input_ids", "attention_mask"],
        },
        "decoder": {
            "tokenizer_class": "Qwen2Tokenizer",
            "add_prefix_space": False,
            "bos_token": None,
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "unk_token": None,
        },
    }[family]
    tokens = json.loads(tokenizer_json(family))["added_tokens"]
    decoder = {str(token["id"]): {name: value for name, value in token.items() if name != "id"} for token in tokens}
    return {**config, "model_max_length": MAX_TOKENS, "added_tokens_decoder": decoder}


def _model(family: str) -> transformers.PreTrainedModel:
    tokenizer = Tokenizer.from_str(tokenizer_json(family))
    # A wide initialiser: with the usual 0.02 a piece's neighbours hardly matter, and errors would not show.
    common: Json = {
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": 48,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 64,
        "initializer_range": 0.3,
    }
    roberta: Json = {
        "max_position_embeddings": MAX_TOKENS + 2,
        "type_vocab_size": 1,
        "bos_token_id": 0,
        "pad_token_id": 1,
        "eos_token_id": 2,
    }
    if family.startswith("wordpiece"):
        config: Any = transformers.BertConfig(**common, max_position_embeddings=MAX_TOKENS, pad_token_id=0)
        return transformers.BertModel(config)
    if family == "unigram":
        return transformers.XLMRobertaModel(transformers.XLMRobertaConfig(**common, **roberta))
    if family == "bytelevel":
        return transformers.RobertaModel(transformers.RobertaConfig(**common, **roberta))
    if family == "modernbert-like":
        config = transformers.ModernBertConfig(
            **common,
            max_position_embeddings=MAX_TOKENS,
            pad_token_id=tokenizer.token_to_id("[PAD]"),
            bos_token_id=tokenizer.token_to_id("[CLS]"),
            cls_token_id=tokenizer.token_to_id("[CLS]"),
            eos_token_id=tokenizer.token_to_id("[SEP]"),
            sep_token_id=tokenizer.token_to_id("[SEP]"),
        )
        return transformers.ModernBertModel(config)
    # Qwen pads its embedding matrix beyond the tokenizer's last id.
    config = transformers.Qwen3Config(
        **{**common, "vocab_size": tokenizer.get_vocab_size() + 27},
        num_key_value_heads=HEADS // 2,
        head_dim=16,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.token_to_id("<|endoftext|>"),
        eos_token_id=tokenizer.token_to_id("<|im_end|>"),
    )
    return transformers.Qwen3Model(config)


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_modules(folder: Path, pooling: str, width: int) -> None:
    names = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    _write_json(
        folder / "modules.json",
        [
            {"idx": idx, "name": str(idx), "path": path, "type": f"sentence_transformers.models.{name}"}
            for idx, (name, path) in enumerate(names)
        ],
    )
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": width,
            "pooling_mode_cls_token": pooling == "first",
            "pooling_mode_mean_tokens": pooling == "mean",
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
            "pooling_mode_weightedmean_tokens": False,
            "pooling_mode_lasttoken": pooling == "last",
            "include_prompt": True,
        },
    )
    (folder / "2_Normalize").mkdir(exist_ok=True)
    _write_json(folder / "sentence_bert_config.json", {"max_seq_length": MAX_TOKENS, "do_lower_case": False})
    versions = {"sentence_transformers": "3.0.0", "transformers": "4.41.0", "pytorch": "2.3.0"}
    _write_json(folder / "config_sentence_transformers.json", {"__version__": versions})


def build_teacher(family: str, folder: Path, seed: int = 0) -> Path:
    """`folder`, now holding a teacher of that tokenizer family (one of `FAMILIES`)."""
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _model(family)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(family), encoding="utf-8")
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(family))
    _write_modules(folder, POOLING[family], model.config.hidden_size)
    return folder


def _without_tokenizer(folder: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()


def _vision(folder: Path) -> None:
    """A ViT as published: an image processor, no tokenizer, no sentence-transformers files."""
    config = transformers.ViTConfig(
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=32,
        patch_size=16,
    )
    transformers.ViTModel(config).save_pretrained(folder)
    _write_json(
        folder / "preprocessor_config.json",
        {"image_processor_type": "ViTImageProcessor", "do_resize": True, "size": {"height": 32, "width": 32}},
    )


def _slow_tokenizer(folder: Path) -> None:
    """A Japanese BERT: a vocabulary, and a tokenizer class that exists in Python only."""
    build_teacher("wordpiece", folder)
    pieces = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab()
    _without_tokenizer(folder)
    lines = "".join(f"{piece}\n" for piece in sorted(pieces, key=pieces.__getitem__))
    (folder / "vocab.txt").write_text(lines, encoding="utf-8")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "BertJapaneseTokenizer",
            "word_tokenizer_type": "basic",
            "subword_tokenizer_type": "character",
            "do_lower_case": False,
        },
    )


def _leave_a_mark(folder: Path) -> str:
    return f"from pathlib import Path\n\nPath({str(folder / 'EXECUTED')!r}).touch()\n"


def _custom_code(folder: Path) -> None:
    """An architecture of its own, whose code leaves the file `EXECUTED` when it runs."""
    build_teacher("wordpiece", folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    auto_map = {"AutoConfig": "modeling_marked.MarkedConfig", "AutoModel": "modeling_marked.MarkedModel"}
    _write_json(
        folder / "config.json",
        {**config, "model_type": "marked", "architectures": ["MarkedModel"], "auto_map": auto_map},
    )
    (folder / "modeling_marked.py").write_text(
        _leave_a_mark(folder)
        + "from transformers import BertConfig, BertModel\n\n\n"
        + 'class MarkedConfig(BertConfig):\n    model_type = "marked"\n\n\n'
        + "class MarkedModel(BertModel):\n    config_class = MarkedConfig\n",
        encoding="utf-8",
    )


def _custom_module(folder: Path) -> None:
    """A known architecture, with a pooling module of its own, whose code leaves the file `EXECUTED`."""
    build_teacher("wordpiece", folder)
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[1]["type"] = "marked_pooling.MarkedPooling"
    _write_json(folder / "modules.json", modules)
    (folder / "marked_pooling.py").write_text(
        _leave_a_mark(folder)
        + "from sentence_transformers.models import Pooling\n\n\nclass MarkedPooling(Pooling):\n    pass\n",
        encoding="utf-8",
    )


def _nan_weights(folder: Path) -> None:
    """One row of the word embeddings is NaN: the outputs for one piece, and for no other."""
    build_teacher("wordpiece", folder)
    tensors = load_file(folder / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][-1] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def _truncated_weights(folder: Path) -> None:
    """The download stopped half-way."""
    build_teacher("wordpiece", folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def _no_tokenizer(folder: Path) -> None:
    build_teacher("wordpiece", folder)
    _without_tokenizer(folder)


_BROKEN: dict[str, Callable[[Path], None]] = {
    "vision": _vision,
    "no-tokenizer": _no_tokenizer,
    "slow-tokenizer": _slow_tokenizer,
    "custom-code": _custom_code,
    "custom-module": _custom_module,
    "nan-weights": _nan_weights,
    "truncated-weights": _truncated_weights,
    "empty": lambda folder: None,
}
BROKEN = tuple(_BROKEN)


def build_broken_teacher(kind: str, folder: Path) -> Path:
    """`folder`, now holding a teacher that can't be distilled as it is (`kind` is one of `BROKEN`)."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _BROKEN[kind](folder)
    return folder
