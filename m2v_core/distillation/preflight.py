"""Predict the requirements and result of a distillation from metadata, without downloading weights or loading torch.

`look_up` fetches a teacher's metadata; `plan` then uses it to predict the result of any settings.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from m2v_core.distillation.automatic_vocabulary import resolve_words
from m2v_core.distillation.cache import VectorCache, vectors_key
from m2v_core.distillation.calibration.bags import deduplicate_texts, n_bags, sample_evenly
from m2v_core.distillation.calibration.dictionary import dictionary_sample, uses_dictionary
from m2v_core.distillation.settings import (
    DEFAULTS,
    Dictionary,
    DistillRequest,
    Effort,
    PCADims,
    Pooling,
    Precision,
    Recipe,
)
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
from m2v_core.distillation.teacher.poolings import CANDIDATES
from m2v_core.distillation.teacher.requirements import find_problems
from m2v_core.distillation.teacher.source import TEACHER_FILES, TeacherSource
from m2v_core.distillation.timing import PREPARING, Amounts, Timings, default_seconds, fixed_seconds
from m2v_core.distillation.word_lists import corpus_warning
from m2v_core.errors import HubError, M2VError, TeacherError
from m2v_core.hub import download
from m2v_core.tokenization import FAMILIES, EntryRows, StaticVocabulary, build_static_vocabulary, unknown_token_id

logger = logging.getLogger(__name__)

_MAX_LENGTH = 512  # tokens of a teacher's input; see teacher.py
_TOKENS_PER_BAG = 9  # seven words on average, and two special tokens
_SAMPLED_TEXTS = 500  # sampled texts of the corpus, used to estimate its number of tokens
SAMPLED_WORDS = 5_000  # sampled words of a vocabulary, used for interactive estimates


@dataclass(frozen=True)
class TeacherFacts:
    """Metadata of a teacher; None where unknown.

    Attributes:
        name: As requested.
        access: Visibility on the Hub, or the local location.
        commit: Commit on the Hub from which the metadata was fetched.
        license: License in its card.
        languages: Languages in its card, usually ISO codes.
        download_bytes: Size of the files that a distillation needs, cached or not; 0 for a local teacher.
        n_parameters: Number of parameters, including embeddings.
        n_embedding_parameters: Number of parameters of the token embeddings, which require no matrix products.
        teacher_dim: Width of its sentence embeddings after all modules: the maximum for a model.
        max_length: Maximum number of tokens of a text.
        family: `"WordPiece"`, `"Unigram"`, `"BPE"`, ...
        n_pieces: Size of its vocabulary.
        problems: Reasons why it can't be distilled, one or two sentences each; empty if it can.
        modules: The modules after its transformer.
        prompts: Prompts that it was trained with, by name.
        default_prompt_name: Name of the default prompt; None if there is none.
        tokenizer: Its tokenizer.
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
        """All attributes except the tokenizer, as JSON values."""
        hidden = ("tokenizer", "pad_token", "modules")
        return {name: value for name, value in vars(self).items() if name not in hidden} | {
            "problems": list(self.problems),
            "prompts": dict(self.prompts),
            "modules_applied": list(self.modules.names_applied),
            "modules_not_applied": list(self.modules.not_applied),
        }


@dataclass(frozen=True)
class Plan:
    """The predicted result of a distillation; None where unknown.

    Attributes:
        n_rows: Rows of the table.
        dim: Width of the rows.
        is_upper_bound: Whether `dim` and `n_bytes` are upper bounds, because `pca_dims` is a share of the variance.
        n_bytes: Bytes of the table, weights and mapping: `StaticModel.n_bytes` of the result.
        seconds: Estimated time without the download, based on earlier runs on this machine, or else on two CPU cores.
        is_estimate: Whether `n_rows` and values derived from it are estimated from a sample of the vocabulary.
        entries: How the vocabulary's entries map to rows; None without a vocabulary, or if estimated from a sample.
        n_dictionary_lines: Number of definitions and example sentences that the table is fitted to.
        n_corpus_texts: Number of texts of the corpus that the table is fitted to.
        corpus_note: A user-facing sentence if only part of the corpus is used; None otherwise.
        stage_seconds: `timing.default_seconds`: seconds of each stage without earlier runs; empty if unknown.
        vocabulary_source: Source of an automatic vocabulary, such as `"auto:en"`; None without one.
        vocabulary_summary: User-facing description of this vocabulary, with the number of words.
        corpus_warning: Why the corpus may not suit the teacher; None if it does.
        n_cached: Rows whose vectors are cached, so that the teacher does not have to embed them.
    """

    n_rows: int | None
    dim: int | None
    is_upper_bound: bool
    n_bytes: int | None
    seconds: float | None
    is_estimate: bool = False
    entries: EntryRows | None = None
    n_dictionary_lines: int = 0
    n_corpus_texts: int = 0
    corpus_note: str | None = None
    stage_seconds: Mapping[str, float] = field(default_factory=dict)
    vocabulary_source: str | None = None
    vocabulary_summary: str | None = None
    corpus_warning: str | None = None
    n_cached: int = 0

    def to_json(self) -> dict[str, Any]:
        """All attributes as JSON values."""
        return {**vars(self), "entries": self.entries and self.entries.to_json()}


def look_up(
    model_name: str | Path,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    max_parameters: int | None = None,
) -> TeacherFacts:
    """Return the metadata of a teacher without downloading its weights.

    Args:
        model_name: A folder, or a repository on the Hub; the bundled teacher also works if the Hub can't be reached.
        token: Hub token, for private and gated repositories.
        endpoint: URL of the Hub; None for `HF_ENDPOINT` or huggingface.co.
        max_parameters: Maximum number of parameters; more are reported as a problem.

    Raises:
        NotFoundError: Neither a folder nor a repository of this name exists.
        HubError: The Hub can't be reached, and the teacher is not the bundled one.
    """
    name = str(model_name)
    folder = Path(name)
    if folder.is_dir():
        return _extract_facts(files_of_folder(name, folder, "folder"), max_parameters)
    try:
        files = files_of_repo(name, token, endpoint)
    except HubError:
        if not is_bundled(name):
            raise
        files = files_of_folder(name, bundled_folder(), "bundled")
    return _extract_facts(files, max_parameters)


def plan(
    facts: TeacherFacts,
    *,
    vocabulary: str | Sequence[str] | Mapping[str, float] | None = None,
    use_subword: bool = True,
    token_remove_pattern: str | None = DEFAULTS.token_remove_pattern,
    pca_dims: PCADims = DEFAULTS.pca_dims,
    quantize_to: Precision = DEFAULTS.quantize_to,
    vocabulary_quantization: int | None = None,
    recipe: Recipe = DEFAULTS.recipe,
    prompt_name: str | None = None,
    dictionary: Dictionary = DEFAULTS.dictionary,
    effort: Effort | None = DEFAULTS.effort,
    vocabulary_size: int | str = DEFAULTS.vocabulary_size,
    corpus: Sequence[str] | None = None,
    pooling: Pooling = DEFAULTS.pooling,
    most_words: int | None = None,
    timings: Timings | None = None,
    cache: VectorCache | None = None,
) -> Plan:
    """Predict the result of `distill` with these settings, without distilling.

    The rows are counted by building the static model's tokenizer, as in a distillation.

    Args:
        facts: From `look_up`.
        vocabulary: As in `distill`.
        use_subword: As in `distill`.
        token_remove_pattern: As in `distill`.
        pca_dims: As in `distill`.
        quantize_to: As in `distill`.
        vocabulary_quantization: As in `distill`.
        recipe: As in `distill`.
        prompt_name: As in `distill`.
        dictionary: As in `distill`.
        effort: As in `distill`.
        vocabulary_size: As in `distill`.
        corpus: As in `distill`; required for `vocabulary="auto:corpus"`.
        pooling: As in `distill`.
        most_words: Maximum number of words to tokenize; larger vocabularies are sampled evenly and the rows estimated.
            None for all.
        timings: Timings of earlier runs on this machine; None to use the default estimates.
        cache: The run's cache of teacher outputs; the estimated time excludes cached ones.

    Raises:
        InputError: A setting is out of range.
        VocabularyError: The vocabulary has no valid word.
        TeacherError: Tokenizers of this type can't be edited.
    """
    settings = DistillRequest(
        vocabulary=vocabulary,
        use_subword=use_subword,
        token_remove_pattern=token_remove_pattern,
        pca_dims=pca_dims,
        quantize_to=quantize_to,
        vocabulary_quantization=vocabulary_quantization,
        recipe=recipe,
        prompt_name=prompt_name,
        dictionary=dictionary,
        effort=effort,
        vocabulary_size=vocabulary_size,
        corpus=corpus,
        pooling=pooling,
    )
    find_prompt(facts.name, facts.prompts, prompt_name)
    if facts.tokenizer is None:
        return Plan(None, None, False, None, None)
    model_dim = facts.modules.model_dim(settings.applies_modules)
    request, automatic = resolve_words(settings, facts.tokenizer, facts.pad_token, facts.languages, model_dim)
    vocabulary = None if request.vocabulary is None else list(request.vocabulary)
    words = None if vocabulary is None else sample_evenly(vocabulary, most_words)

    def count(words: tuple[str, ...] | None, use_subword: bool) -> tuple[StaticVocabulary, tuple[int, ...]]:
        """Return the static vocabulary, and the numbers of embedded rows, all rows, uncached rows and their tokens."""
        static = _vocabulary(facts, words, use_subword, token_remove_pattern)
        n_read = len(static.sequences)
        # At word level the unknown token has a row that the teacher does not embed.
        n_entries = n_read + (unknown_token_id(static.tokenizer) == n_read)
        uncached = static.sequences if cache is None else _uncached_sequences(facts, settings, static, cache)
        return static, (n_read, n_entries, len(uncached), sum(map(len, uncached)))

    static, counts = count(words, use_subword)
    share = len(vocabulary) / len(words) if vocabulary and words else 1.0
    if share > 1:
        first = count(None, True)[1] if use_subword else (0, 0, 0, 0)
        counts = tuple(round(few + share * (all_ - few)) for few, all_ in zip(first, counts, strict=True))
    n_read, n_entries, n_uncached, n_tokens = counts
    n_rows = n_entries if vocabulary_quantization is None else min(vocabulary_quantization, n_read)
    dim, is_upper_bound = _dim(
        model_dim,
        pca_dims,
        n_read if vocabulary_quantization is None else n_rows,
    )
    n_bytes = None if dim is None else settings.table_bytes(n_rows, n_entries, dim)
    limits = settings.limits
    n_lines = limits.n_dictionary_lines if uses_dictionary(settings, static.tokenizer, facts.languages) else 0
    texts = deduplicate_texts(corpus or ())
    n_corpus_texts = min(len(texts), limits.n_corpus_texts)
    is_truncated = pca_dims is not None and facts.teacher_dim is not None and n_read > facts.teacher_dim
    is_prepared = cache is not None and cache.has_prepared(
        _source(facts), request, "auto" if is_truncated else pca_dims
    )
    stage_seconds: dict[str, float] = {}
    if facts.n_parameters is not None:
        bags = n_bags(n_read, limits.n_bags) if recipe == "calibrated" else 0
        amounts = Amounts(
            n_compute_parameters=max(facts.n_parameters - facts.n_embedding_parameters, 0),
            tokens={
                "encode": n_tokens,
                "bags": _TOKENS_PER_BAG * bags,
                "dictionary": round(n_lines * _mean_length(facts, dictionary_sample())) if n_lines else 0,
                "corpus": round(n_corpus_texts * _mean_length(facts, sample_evenly(texts, _SAMPLED_TEXTS))),
            },
            n_rows=n_read,
            dim=(facts.teacher_dim if is_truncated else dim) or 0,
            n_texts=bags + n_lines + n_corpus_texts,
            has_text=n_lines + n_corpus_texts > 0,
        )
        stage_seconds = default_seconds(amounts)
        if is_prepared:
            stage_seconds = {name: each for name, each in stage_seconds.items() if name not in PREPARING}
    predicted = (timings or Timings(None)).predict(facts.name, stage_seconds)
    return Plan(
        n_rows,
        dim,
        is_upper_bound,
        n_bytes,
        sum(predicted.values()) or None,
        is_estimate=share > 1,
        entries=None if share > 1 else static.entries,
        n_dictionary_lines=n_lines,
        n_corpus_texts=n_corpus_texts,
        corpus_note=settings.corpus_note(len(texts)),
        stage_seconds=stage_seconds,
        vocabulary_source=None if automatic is None else automatic.source,
        vocabulary_summary=None if automatic is None else automatic.summary(),
        n_cached=n_read - n_uncached,
        corpus_warning=None if corpus is None else corpus_warning(corpus, facts.tokenizer),
    )


def run_seconds(
    model_name: str, settings: Mapping[str, Any], *, token: str | None = None, stages: Sequence[str] = ()
) -> dict[str, float]:
    """Return the seconds of each stage of a run, from `timing.default_seconds`; empty if unknown.

    Args:
        model_name: The teacher.
        settings: Arguments of `distill`, including `vocabulary` and `corpus`; those that `plan` doesn't accept are
            ignored.
        token: As for `look_up`.
        stages: Stages after the distillation; see `timing.fixed_seconds`.
    """
    taken = {name: settings[name] for name in inspect.signature(plan).parameters if name in settings}
    try:
        seconds = plan(look_up(model_name, token=token), **taken).stage_seconds
    except M2VError as error:
        logger.info("The run time can't be estimated: %s", error)
        return {}
    return {**seconds, **fixed_seconds(*stages)} if seconds else {}


def _mean_length(facts: TeacherFacts, texts: Sequence[str]) -> float:
    """Mean number of tokens of the teacher's input per text, special tokens included; 0 without texts."""
    assert facts.tokenizer is not None
    longest = min(facts.max_length or _MAX_LENGTH, _MAX_LENGTH)
    encodings = facts.tokenizer.encode_batch_fast(list(texts))
    return sum(min(sum(encoding.attention_mask), longest) for encoding in encodings) / max(len(texts), 1)


@functools.lru_cache(maxsize=4)
def _vocabulary(
    facts: TeacherFacts, vocabulary: tuple[str, ...] | None, use_subword: bool, token_remove_pattern: str | None
) -> StaticVocabulary:
    assert facts.tokenizer is not None
    return build_static_vocabulary(
        facts.tokenizer,
        vocabulary,
        use_subword,
        token_remove_pattern,
        facts.pad_token,
        min(facts.max_length or _MAX_LENGTH, _MAX_LENGTH),
    )


def _source(facts: TeacherFacts) -> TeacherSource:
    """The teacher's source, as in a distillation, for cache keys."""
    if facts.commit is not None:
        return TeacherSource(facts.name, Path(), facts.commit)
    return TeacherSource(facts.name, bundled_folder() if facts.access == "bundled" else Path(facts.name))


def _uncached_sequences(
    facts: TeacherFacts, settings: DistillRequest, static: StaticVocabulary, cache: VectorCache
) -> list[list[int]]:
    """Return the sequences that are not cached; for `"auto"` pooling, the minimum over the candidates."""
    poolings = CANDIDATES if settings.pooling == "auto" else [settings.pooling]
    source = _source(facts)
    keys = [vectors_key(source, pooling, static.n_special, settings.applies_modules) for pooling in poolings]
    missing = min((cache.find_missing(key, static.sequences) for key in keys), key=len)
    return [static.sequences[row] for row in missing]


def _dim(teacher_dim: int | None, pca_dims: PCADims, n_rows: int) -> tuple[int | None, bool]:
    """Return the width of the result of `reduction.reduce_dims`, and whether it is an upper bound."""
    if teacher_dim is None or pca_dims is None or pca_dims == "auto" or n_rows < 2:
        return teacher_dim, False
    if isinstance(pca_dims, float):
        return teacher_dim, True
    wanted = min(int(pca_dims), teacher_dim)
    return (teacher_dim if wanted >= n_rows else wanted), False


def _extract_facts(raw: TeacherFiles, max_parameters: int | None) -> TeacherFacts:
    config = raw.json("config.json")
    problems, tokenizer = _problems(raw, max_parameters)
    family = None if tokenizer is None else type(tokenizer.model).__name__
    hidden_dim = number(config, "hidden_size", "d_model", "dim", "n_embd")
    n_pieces = None if tokenizer is None else tokenizer.get_vocab_size(with_added_tokens=True)
    n_embeddings = (number(config, "vocab_size") or n_pieces or 0) * (hidden_dim or 0)
    try:
        modules = raw.sentence_modules
    except TeacherError:  # reported in `problems`
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
    """Return why the teacher can't be distilled, and its tokenizer if it can be loaded."""
    if raw.contents is None:
        return [
            f"{raw.name} is gated. Request access on its page and sign in with that account, or choose another teacher."
        ], None
    found = [str(problem) for problem in find_problems(raw)]
    tokenizer = None
    if not found:
        try:
            tokenizer = raw.tokenizer
        except M2VError as error:  # TeacherError, or a missing extra for the conversion
            found.append(str(error))
    if tokenizer is not None and (family := type(tokenizer.model).__name__) not in FAMILIES:
        found.append(f"{raw.name} has a {family} tokenizer; supported types are {', '.join(FAMILIES)}. Choose another.")
    if max_parameters is not None and raw.n_parameters is not None and raw.n_parameters > max_parameters:
        found.append(
            f"{raw.name} has {raw.n_parameters:,} parameters; the limit here is {max_parameters:,}. Choose a smaller "
            "teacher, or run the app on your own machine."
        )
    if max_parameters is not None and raw.n_parameters is None and _weight_bytes(raw.sizes) > 4 * max_parameters:
        found.append(
            f"{raw.name} has {_weight_bytes(raw.sizes):,} bytes of weights; the limit here is {max_parameters:,} "
            "parameters. Choose a smaller teacher, or run the app on your own machine."
        )
    return found, tokenizer


def _weight_bytes(sizes: Mapping[str, int]) -> int:
    return sum(n_bytes for path, n_bytes in sizes.items() if path.endswith(".safetensors"))


def _max_length(raw: TeacherFiles) -> int | None:
    """The smallest length limit in the configuration files; None if there is none."""
    stated = [
        number(raw.json("sentence_bert_config.json"), "max_seq_length"),
        number(raw.json("tokenizer_config.json"), "model_max_length"),
        number(raw.json("config.json"), "max_position_embeddings", "n_positions"),
    ]
    return min((limit for limit in stated if limit is not None), default=None)
