"""What a distillation would need and give, from metadata alone: no weights are fetched, no torch is loaded.

`look_up` asks about a teacher once; `plan` then says what each choice of settings would make of it.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from m2v_core.distillation.calibration.bags import n_bags
from m2v_core.distillation.calibration.dictionary import N_LINES, takes_dictionary
from m2v_core.distillation.settings import DEFAULTS, Dictionary, DistillSettings, PCADims, Precision, Recipe
from m2v_core.distillation.teacher.bundled import bundled_folder, is_bundled
from m2v_core.distillation.teacher.files import (
    Access,
    TeacherFiles,
    files_of_folder,
    files_of_repo,
    find_prompt,
    number,
)
from m2v_core.distillation.teacher.modules import SentenceModules
from m2v_core.distillation.teacher.requirements import find_problems
from m2v_core.distillation.teacher.source import TEACHER_FILES
from m2v_core.errors import HubError, M2VError, TeacherError
from m2v_core.hub import download
from m2v_core.tokenization import FAMILIES, EntryRows, build_static_vocabulary, unknown_token_id

_MAX_LENGTH = 512  # of what a teacher is given to read; see teacher.py
# Measured with all-MiniLM-L6-v2 (10.8 million parameters beside its embeddings) on two cores of a Xeon server:
# 2,535 entries of three tokens a second, and six seconds until the first one.
_FLOPS_A_SECOND = 1.6e11
_START_SECONDS = 6.0
_TOKENS_PER_BAG = 9  # seven words on average, and two special tokens
_TOKENS_PER_LINE = 14  # of the dictionary, with all-MiniLM-L6-v2
SAMPLED_WORDS = 5_000  # of a long vocabulary, where somebody waits for the answer
_ITEM_BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class TeacherFacts:
    """What is known of a teacher before it is fetched; None where nothing says.

    Attributes:
        name: As it was asked for.
        access: Who may read it, or where it is instead of on the Hub.
        commit: The commit that the Hub's facts are of.
        license: As its card states it.
        languages: As its card states them, ISO codes as a rule.
        download_bytes: What a distillation fetches; 0 for a local one. What is cached already counts too.
        n_parameters: All of them, embeddings included.
        n_embedding_parameters: Those of its token embeddings, which take no time.
        teacher_dim: Width of its sentence embeddings, all its modules applied: the most that a model can have.
        max_length: Longest text it was made for, in tokens.
        family: `"WordPiece"`, `"Unigram"`, `"BPE"`, ...
        n_pieces: Size of its vocabulary.
        problems: Why it can't be distilled, a sentence or two each; empty when it can.
        modules: What follows its transformer.
        prompts: Texts that it was trained to read before a text, by name.
        default_prompt_name: The prompt that is read unless another one is named; None for none.
        tokenizer: To plan with.
        pad_token: Its padding token.
    """

    name: str
    access: Access
    commit: str | None
    license: str | None
    download_bytes: int
    n_parameters: int | None
    n_embedding_parameters: int
    teacher_dim: int | None
    max_length: int | None
    family: str | None
    n_pieces: int | None
    problems: tuple[str, ...]
    modules: SentenceModules
    prompts: Mapping[str, str] = field(default_factory=dict, hash=False)
    languages: tuple[str, ...] = ()
    default_prompt_name: str | None = None
    tokenizer: Tokenizer | None = None
    pad_token: str | None = None

    def to_json(self) -> dict[str, Any]:
        """All but the tokenizer, as plain JSON values."""
        hidden = ("tokenizer", "pad_token", "modules")
        return {name: value for name, value in vars(self).items() if name not in hidden} | {
            "problems": list(self.problems),
            "prompts": dict(self.prompts),
            "modules_applied": list(self.modules.names_applied),
            "modules_not_applied": list(self.modules.not_applied),
        }


@dataclass(frozen=True)
class Plan:
    """What settings make of a teacher; None where nothing says.

    Attributes:
        n_rows: Rows of the table.
        dim: Their width.
        is_upper_bound: Whether `dim` and `n_bytes` are the most it can be, as a share of the variance decides.
        n_bytes: Of the table with its weights and mapping: `StaticModel.n_bytes` of the result.
        seconds: About how long it takes on two CPU cores, without the download.
        is_estimate: Whether `n_rows` and what follows from it was told by a sample of the vocabulary.
        entries: What becomes of the entries of the vocabulary; None without one, or where a sample told the rest.
        n_dictionary_lines: Definitions and example sentences that the table is fitted to; 0 for none.
    """

    n_rows: int | None
    dim: int | None
    is_upper_bound: bool
    n_bytes: int | None
    seconds: float | None
    is_estimate: bool = False
    entries: EntryRows | None = None
    n_dictionary_lines: int = 0

    def to_json(self) -> dict[str, Any]:
        """All of it, as plain JSON values."""
        return {**vars(self), "entries": self.entries and self.entries.to_json()}


def look_up(
    model_name: str | Path,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    max_parameters: int | None = None,
) -> TeacherFacts:
    """What is known of a teacher before it is fetched.

    Args:
        model_name: A folder, or a repository on the Hub; the bundled teacher where the Hub can't be reached.
        token: Hub token, for private and gated repositories.
        endpoint: Another Hub than huggingface.co or `HF_ENDPOINT`.
        max_parameters: The most that are allowed here; more is a problem.

    Raises:
        NotFoundError: No such folder and no such repository.
        HubError: The Hub can't be reached, and the teacher is not the bundled one.
    """
    name = str(model_name)
    folder = Path(name)
    if folder.is_dir():
        return _judged(files_of_folder(name, folder, "folder"), max_parameters)
    try:
        known = files_of_repo(name, token, endpoint)
    except HubError:
        if not is_bundled(name):
            raise
        known = files_of_folder(name, bundled_folder(), "bundled")
    return _judged(known, max_parameters)


def plan(
    facts: TeacherFacts,
    *,
    vocabulary: Sequence[str] | None = None,
    use_subword: bool = True,
    token_remove_pattern: str | None = DEFAULTS.token_remove_pattern,
    pca_dims: PCADims = DEFAULTS.pca_dims,
    quantize_to: Precision = DEFAULTS.quantize_to,
    vocabulary_quantization: int | None = None,
    recipe: Recipe = DEFAULTS.recipe,
    prompt_name: str | None = None,
    dictionary: Dictionary = DEFAULTS.dictionary,
    most_words: int | None = None,
) -> Plan:
    """What `distill` with these settings would make of the teacher, without distilling.

    The rows are counted by building the static model's tokenizer, as a distillation does.

    Args:
        facts: From `look_up`.
        vocabulary: As in `distill`, like all that follow.
        use_subword: As there.
        token_remove_pattern: As there.
        pca_dims: As there.
        quantize_to: As there.
        vocabulary_quantization: As there.
        recipe: As there.
        prompt_name: As there.
        dictionary: As there.
        most_words: How many words of the vocabulary are tokenized at most, evenly drawn; the rows are told by them.
            None for all.

    Raises:
        InputError: A setting is out of its range.
        VocabularyError: The vocabulary holds no usable word.
        TeacherError: The tokenizer is of a kind that can't be edited.
    """
    settings = DistillSettings(
        use_subword=use_subword,
        token_remove_pattern=token_remove_pattern,
        pca_dims=pca_dims,
        quantize_to=quantize_to,
        vocabulary_quantization=vocabulary_quantization,
        recipe=recipe,
        prompt_name=prompt_name,
        dictionary=dictionary,
    )
    find_prompt(facts.name, facts.prompts, prompt_name)
    if facts.tokenizer is None:
        return Plan(None, None, False, None, None)
    words = None if vocabulary is None else sampled(vocabulary, most_words)
    n_read, n_tokens, n_entries, entries, tokenizer = _count(facts, words, use_subword, token_remove_pattern)
    share = len(vocabulary) / len(words) if vocabulary and words else 1.0
    if share > 1:
        first = _count(facts, None, True, token_remove_pattern)[:3] if use_subword else (0, 0, 0)
        n_read, n_tokens, n_entries = (
            round(few + share * (all_ - few)) for few, all_ in zip(first, (n_read, n_tokens, n_entries), strict=True)
        )
    n_rows = n_entries if vocabulary_quantization is None else min(vocabulary_quantization, n_read)
    dim, is_upper_bound = _dim(
        facts.modules.model_dim(settings.applies_modules),
        pca_dims,
        n_read if vocabulary_quantization is None else n_rows,
    )
    n_bytes = None
    if dim is not None:
        n_bytes = n_rows * dim * _ITEM_BYTES[quantize_to]
        if vocabulary_quantization is not None:
            n_bytes += 2 * 4 * n_entries  # weights and mapping
        elif quantize_to == "int8":
            n_bytes += 4 * n_entries  # each row's scale
    n_lines = N_LINES if takes_dictionary(settings, tokenizer, facts.languages) else 0
    seconds = None
    if facts.n_parameters is not None:
        n_busy = max(facts.n_parameters - facts.n_embedding_parameters, 0)
        if recipe == "calibrated":
            n_tokens += _TOKENS_PER_BAG * n_bags(n_read)
        n_tokens += _TOKENS_PER_LINE * n_lines
        seconds = _START_SECONDS + 2 * n_busy * n_tokens / _FLOPS_A_SECOND
    return Plan(n_rows, dim, is_upper_bound, n_bytes, seconds, share > 1, None if share > 1 else entries, n_lines)


def sampled(words: Sequence[str], most: int | None) -> tuple[str, ...]:
    """So many of the words, evenly drawn and in their order; all where they are not more."""
    if most is None or len(words) <= most:
        return tuple(words)
    return tuple(words[number * len(words) // most] for number in range(most))


@functools.lru_cache(maxsize=4)
def _count(
    facts: TeacherFacts, vocabulary: tuple[str, ...] | None, use_subword: bool, token_remove_pattern: str | None
) -> tuple[int, int, int, EntryRows | None, Tokenizer]:
    """Rows the teacher reads, its tokens in them, rows of the static vocabulary, entries passed, static tokenizer."""
    assert facts.tokenizer is not None
    static = build_static_vocabulary(
        facts.tokenizer,
        vocabulary,
        use_subword,
        token_remove_pattern,
        facts.pad_token,
        min(facts.max_length or _MAX_LENGTH, _MAX_LENGTH),
    )
    n_read = len(static.sequences)
    # At word level the unknown token has a row that the teacher does not read.
    n_entries = n_read + (unknown_token_id(static.tokenizer) == n_read)
    return n_read, sum(map(len, static.sequences)), n_entries, static.entries, static.tokenizer


def _dim(teacher_dim: int | None, pca_dims: PCADims, n_rows: int) -> tuple[int | None, bool]:
    """The width that `reduction.reduce_dims` comes to, and whether it is the most it can be."""
    if teacher_dim is None or pca_dims is None or pca_dims == "auto" or n_rows < 2:
        return teacher_dim, False
    if isinstance(pca_dims, float):
        return teacher_dim, True
    wanted = min(int(pca_dims), teacher_dim)
    return (teacher_dim if wanted >= n_rows else wanted), False


def _judged(raw: TeacherFiles, max_parameters: int | None) -> TeacherFacts:
    config = raw.json("config.json")
    problems, tokenizer = _problems(raw, max_parameters)
    family = None if tokenizer is None else type(tokenizer.model).__name__
    hidden_dim = number(config, "hidden_size", "d_model", "dim", "n_embd")
    n_pieces = None if tokenizer is None else tokenizer.get_vocab_size(with_added_tokens=True)
    n_embeddings = (number(config, "vocab_size") or n_pieces or 0) * (hidden_dim or 0)
    try:
        modules = raw.sentence_modules
    except TeacherError:  # among the problems
        modules = SentenceModules((), (), hidden_dim, hidden_dim, hidden_dim)
    is_remote = raw.access in ("public", "gated", "private")
    return TeacherFacts(
        name=raw.name,
        access=raw.access,
        commit=raw.commit,
        license=raw.license,
        download_bytes=(
            sum(raw.sizes[path] for path in download.matching(raw.sizes, TEACHER_FILES)) if is_remote else 0
        ),
        n_parameters=raw.n_parameters,
        n_embedding_parameters=n_embeddings,
        teacher_dim=modules.output_dim,
        max_length=_max_length(raw),
        family=family,
        n_pieces=n_pieces,
        problems=tuple(problems),
        modules=modules,
        prompts=raw.prompts,
        default_prompt_name=raw.default_prompt_name,
        languages=raw.languages,
        tokenizer=tokenizer if family in FAMILIES else None,
        pad_token=None if tokenizer is None else raw.pad_token,
    )


def _problems(raw: TeacherFiles, max_parameters: int | None) -> tuple[list[str], Tokenizer | None]:
    """Why it can't be distilled, and its tokenizer where it can be read."""
    if raw.contents is None:
        return [
            f"{raw.name} is gated. Ask for access on its page, and sign in with the account that was granted it; "
            "or choose another teacher."
        ], None
    found = [str(problem) for problem in find_problems(raw)]
    tokenizer = None
    if not found:
        try:
            tokenizer = raw.tokenizer
        except M2VError as error:  # TeacherError, or an extra that converting it takes
            found.append(str(error))
    if tokenizer is not None and (family := type(tokenizer.model).__name__) not in FAMILIES:
        found.append(f"{raw.name} has a {family} tokenizer; supported are {', '.join(FAMILIES)}. Choose another.")
    if max_parameters is not None and raw.n_parameters is not None and raw.n_parameters > max_parameters:
        found.append(
            f"{raw.name} has {raw.n_parameters:,} parameters, and {max_parameters:,} are allowed here. Choose a "
            "smaller teacher, or run the studio on a machine of your own."
        )
    if max_parameters is not None and raw.n_parameters is None and _weight_bytes(raw.sizes) > 4 * max_parameters:
        found.append(
            f"{raw.name} has {_weight_bytes(raw.sizes):,} bytes of weights, and {max_parameters:,} parameters are "
            "allowed here. Choose a smaller teacher, or run the studio on a machine of your own."
        )
    return found, tokenizer


def _weight_bytes(sizes: Mapping[str, int]) -> int:
    return sum(n_bytes for path, n_bytes in sizes.items() if path.endswith(".safetensors"))


def _max_length(raw: TeacherFiles) -> int | None:
    """The shortest of the limits that the files state."""
    stated = [
        number(raw.json("sentence_bert_config.json"), "max_seq_length"),
        number(raw.json("tokenizer_config.json"), "model_max_length"),
        number(raw.json("config.json"), "max_position_embeddings", "n_positions"),
    ]
    return min((limit for limit in stated if limit is not None), default=None)
