"""The distillation pipeline: from a teacher and a vocabulary to a static model.

Source: Model2Vec, https://github.com/MinishLab/model2vec. The recipe `model2vec` is its published method.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from m2v_core._version import __version__
from m2v_core.distillation.automatic_vocabulary import resolve_words
from m2v_core.distillation.cache import Fitted, Prepared, TeacherVectors, VectorCache
from m2v_core.distillation.cached_teacher import CachedTeacher, RemoteEncoder
from m2v_core.distillation.calibration.bags import deduplicate_texts, sample_evenly, synthetic_bags, whole_words
from m2v_core.distillation.calibration.dictionary import dictionary_lines, uses_dictionary
from m2v_core.distillation.reduction import n_components, reduce_dims
from m2v_core.distillation.settings import (
    DEFAULTS,
    Dictionary,
    DistillRequest,
    Effort,
    PCADims,
    Pooling,
    Precision,
    Recipe,
    Weighting,
    is_automatic,
)
from m2v_core.distillation.teacher.files import TeacherFiles, files_of_folder
from m2v_core.distillation.teacher.remote import VocabularyReader
from m2v_core.distillation.teacher.requirements import check_requirements
from m2v_core.distillation.teacher.source import locate_teacher
from m2v_core.distillation.weighting import rank_weights
from m2v_core.distillation.word_lists import corpus_warning
from m2v_core.errors import Cancelled
from m2v_core.hub.download import is_repo_id
from m2v_core.model import StaticModel
from m2v_core.native.cosines import row_lengths
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage import compression
from m2v_core.tokenization import unknown_token_id

if TYPE_CHECKING:
    from m2v_core.distillation.teacher.teacher import Teacher

logger = logging.getLogger(__name__)


def distill(
    model_name: str | Path,
    vocabulary: str | Sequence[str] | Mapping[str, float] | None = None,
    device: str | None = None,
    pca_dims: PCADims = DEFAULTS.pca_dims,
    apply_zipf: bool = DEFAULTS.apply_zipf,
    use_subword: bool = DEFAULTS.use_subword,
    sif_coefficient: float | None = DEFAULTS.sif_coefficient,
    weighting: Weighting = DEFAULTS.weighting,
    token_remove_pattern: str | None = DEFAULTS.token_remove_pattern,
    pooling: Pooling = DEFAULTS.pooling,
    quantize_to: Precision = DEFAULTS.quantize_to,
    vocabulary_quantization: int | None = DEFAULTS.vocabulary_quantization,
    prompt_name: str | None = DEFAULTS.prompt_name,
    dictionary: Dictionary = DEFAULTS.dictionary,
    effort: Effort | None = DEFAULTS.effort,
    vocabulary_size: int | str = DEFAULTS.vocabulary_size,
    trust_remote_code: bool = False,
    recipe: Recipe = DEFAULTS.recipe,
    corpus: Sequence[str] | None = None,
    cache_folder: str | Path | None = None,
    reader: VocabularyReader | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    revision: str | None = None,
) -> StaticModel:
    r"""Distill a Sentence Transformer into a static model.

    Args:
        model_name: A folder, or a repository on the Hub. `sentence-transformers/all-MiniLM-L6-v2` is bundled as
            the offline fallback.
        vocabulary: Words and phrases, most frequent first, or a mapping from words to counts or relative frequencies,
            which then determine SIF weights and bags. `"auto:en"`: the most frequent words of a language in wordfreq
            that the teacher splits. `"auto"`: those of the teacher's language if its card lists exactly one that
            wordfreq supports, else English. `"auto:corpus"`: frequent words and phrases of `corpus`. None: only the
            teacher's own tokens.
        device: `"cpu"`, `"cuda"`, `"mps"`, or None or `"auto"` to choose automatically.
        pca_dims: Number of dimensions to keep, share of the variance to explain (0 to 1), `"auto"` to rotate without
            reducing, or None for no PCA.
        apply_zipf: Whether to weight rows by rank.
        use_subword: With `vocabulary`: True adds its words to the teacher's tokens; False makes a word-level model,
            which ignores unknown words.
        sif_coefficient: The coefficient a of SIF weights; None gives all rows the same weight.
        weighting: `"sif"`, or `"zipf"` for the weights of Model2Vec before 0.4.0.
        token_remove_pattern: Drop the teacher's tokens whose beginning matches this regular expression.
        pooling: How the teacher's hidden states are pooled into a vector: `"mean"`, `"piece_cls"`, `"piece_half_cls"`,
            `"first"`, `"last"`, `"pooler"`; see `settings.Pooling`. `"auto"` is `"mean"` for the recipe `model2vec`;
            for other recipes it selects the best pooling for the teacher.
        quantize_to: `"float32"`, `"float16"` or `"int8"`.
        vocabulary_quantization: Share this many rows among all tokens (k-means); None for one row per token.
        prompt_name: The teacher's prompt to prepend to each sentence, such as `"query"`; None for its default prompt,
            if it has one.
        dictionary: `"english"` also fits the table to WordNet definitions and example sentences; `"none"` does not;
            `"auto"` does so if the recipe is `"calibrated"` and the teacher and vocabulary are English.
        effort: How many texts the recipe `"calibrated"` uses: `"quick"`, `"balanced"` or `"best"` (the default); see
            `settings.LIMITS`. The result does not depend on the speed of the machine.
        vocabulary_size: For automatic vocabularies: maximum number of words, or the model size in megabytes, such as
            `"40MB"`.
        trust_remote_code: Whether code from the teacher's repository may run.
        recipe: `"model2vec"`, the published method; `"fast"`, the best quality at the same cost; or `"calibrated"`,
            which also has the teacher embed tens of thousands of texts (bags of random words and, for English
            teachers, a dictionary) and fits the table to these embeddings.
        corpus: At least a thousand unlabeled sentences from the domain of the model. The table is fitted to the
            teacher's embeddings of them; works with `"fast"` and `"calibrated"`. See `bulk.read_texts` for files.
        cache_folder: Cache of teacher outputs, at most 2 GiB. With cached outputs, changing dimensions, weights or
            precision takes a second.
        reader: Embeds the vocabulary in other processes, such as `m2v_core.distributed.vocabulary.ClusterReader` on a
            Ray cluster. All other steps run in this process, including sentences and the choice of `"auto"` pooling;
            settings that need more than 4 GiB of vectors in memory raise InputError, such as `"calibrated"` for a
            million words. None runs everything in this process.
        progress: Receives `Progress` events of the stages `download` (in bytes), `load`, `pooling`, `encode`, `reduce`,
            `bags`, `dictionary`, `corpus`, `prepare`, `calibrate`, `descend` and `finish`; skipped stages have no
            events. An exception raised by the callback stops the run and propagates.
        cancel: Event to set from another thread; the run stops after the current batch.
        revision: Branch, tag or commit of the teacher on the Hub; None for `main`.

    Returns:
        A model with `normalize=True`; its table is `(n_rows, dim)` in the precision `quantize_to`.

    Raises:
        InputError: an argument is out of range.
        VocabularyError: the vocabulary has no valid word.
        NotFoundError, HubError: the teacher does not exist, or the Hub can't be reached.
        TeacherError: the teacher is not supported; RemoteCodeError and TeacherOutputError are subclasses.
        DeviceError: the device is not available.
        MissingExtraError: torch or transformers is not installed.
        SaveError, LimitError: with a reader, vectors can't be written, or workers crash repeatedly.
        Cancelled: `cancel` was set.
    """
    settings = DistillRequest(
        vocabulary=vocabulary,
        pca_dims=pca_dims,
        apply_zipf=apply_zipf,
        use_subword=use_subword,
        sif_coefficient=sif_coefficient,
        weighting=weighting,
        token_remove_pattern=token_remove_pattern,
        pooling=pooling,
        quantize_to=quantize_to,
        vocabulary_quantization=vocabulary_quantization,
        prompt_name=prompt_name,
        dictionary=dictionary,
        effort=effort,
        vocabulary_size=vocabulary_size,
        recipe=recipe,
        corpus=corpus,
    )
    reporter = ProgressReporter(progress, cancel)
    if cancel is not None and cancel.is_set():
        raise Cancelled("Cancelled before it started; nothing was written.")
    source = locate_teacher(model_name, revision, reporter)
    reporter.start("load")
    files = files_of_folder(source.name, source.folder, "folder")
    check_requirements(files, trust_remote_code)
    files.prompt(prompt_name)
    cache = None if cache_folder is None else VectorCache(cache_folder)
    remote = None
    if reader is not None:
        remote = RemoteEncoder(reader, source, device, trust_remote_code, settings.applies_modules)
        device = "cpu" if device == "cpu" else None  # this machine may lack the cluster's GPUs

    def load() -> Teacher:
        reporter.start("load", 1)
        from m2v_core.distillation.teacher.teacher import Teacher  # deferred: cached runs don't need torch

        teacher = Teacher.load(
            source,
            device,
            trust_remote_code,
            is_lazy=remote is not None,
            prompt_name=prompt_name,
            applies_modules=settings.applies_modules,
        )
        reporter.advance(1)
        return teacher

    resolved = _resolve_vocabulary(
        settings,
        lambda: (files.tokenizer, files.pad_token),
        files.languages,
        files.sentence_modules.model_dim(settings.applies_modules),
    )
    cached_teacher = CachedTeacher(
        load, resolved.request, reporter, source, cache, remote, files.sentence_modules.output_dim
    )
    entries = resolved.config_entries
    return _make_model(
        cached_teacher, settings, entries, reporter, source.title, source.repo_id, source.revision, files
    )


def distill_from_model(
    model: Any,
    tokenizer: Any,
    vocabulary: str | Sequence[str] | Mapping[str, float] | None = None,
    device: str | None = None,
    pca_dims: PCADims = DEFAULTS.pca_dims,
    apply_zipf: bool = DEFAULTS.apply_zipf,
    use_subword: bool = DEFAULTS.use_subword,
    sif_coefficient: float | None = DEFAULTS.sif_coefficient,
    weighting: Weighting = DEFAULTS.weighting,
    token_remove_pattern: str | None = DEFAULTS.token_remove_pattern,
    pooling: Pooling = DEFAULTS.pooling,
    quantize_to: Precision = DEFAULTS.quantize_to,
    vocabulary_quantization: int | None = DEFAULTS.vocabulary_quantization,
    prompt_name: str | None = DEFAULTS.prompt_name,
    dictionary: Dictionary = DEFAULTS.dictionary,
    effort: Effort | None = DEFAULTS.effort,
    vocabulary_size: int | str = DEFAULTS.vocabulary_size,
    recipe: Recipe = DEFAULTS.recipe,
    corpus: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> StaticModel:
    """Distill a loaded transformers model and its fast tokenizer into a static model.

    All other arguments are as in `distill`. The model's device, mode and precision are restored afterwards.

    Args:
        model: A transformers `PreTrainedModel`.
        tokenizer: Its fast tokenizer, from transformers or tokenizers.
    """
    settings = DistillRequest(
        vocabulary=vocabulary,
        pca_dims=pca_dims,
        apply_zipf=apply_zipf,
        use_subword=use_subword,
        sif_coefficient=sif_coefficient,
        weighting=weighting,
        token_remove_pattern=token_remove_pattern,
        pooling=pooling,
        quantize_to=quantize_to,
        vocabulary_quantization=vocabulary_quantization,
        prompt_name=prompt_name,
        dictionary=dictionary,
        effort=effort,
        vocabulary_size=vocabulary_size,
        recipe=recipe,
        corpus=corpus,
    )
    reporter = ProgressReporter(progress, cancel)
    reporter.start("load")
    from m2v_core.distillation.teacher.teacher import Teacher

    teacher = Teacher.from_model(model, tokenizer, device)
    resolved = _resolve_vocabulary(settings, lambda: (teacher.tokenizer, teacher.pad_token), (), teacher.teacher_dim)
    cached_teacher = CachedTeacher(lambda: teacher, resolved.request, reporter, None, None)
    name = str(getattr(model, "name_or_path", ""))
    # transformers stores the commit of models from the Hub; without one the model was loaded from a folder.
    commit = getattr(getattr(model, "config", None), "_commit_hash", None)
    repo_id = name if commit and not Path(name).is_dir() and is_repo_id(name) else None
    title = repo_id or Path(name).name
    return _make_model(cached_teacher, settings, resolved.config_entries, reporter, title, repo_id, None)


@dataclass(frozen=True)
class _ResolvedVocabulary:
    """A request with a concrete vocabulary.

    Attributes:
        request: The settings, with the words of an automatic vocabulary.
        config_entries: Entries about the vocabulary for the model's configuration.
    """

    request: DistillRequest
    config_entries: dict[str, Any]


def _resolve_vocabulary(
    settings: DistillRequest,
    read_tokenizer: Callable[[], tuple[Tokenizer, str | None]],
    languages: Sequence[str],
    model_dim: int | None,
) -> _ResolvedVocabulary:
    """Replace an automatic vocabulary with its words, and warn about a corpus that does not fit the teacher.

    Args:
        settings: The user's request.
        read_tokenizer: Returns the teacher's tokenizer and its padding token.
        languages: Languages in the teacher's card.
        model_dim: Maximum number of dimensions of a model; None if unknown.
    """
    source = "counts" if isinstance(settings.vocabulary, Mapping) else "list"
    config_entries = {} if settings.vocabulary is None else {"vocabulary_source": source}
    if not settings.corpus and not is_automatic(settings.vocabulary):
        return _ResolvedVocabulary(settings, config_entries)
    tokenizer, pad_token = read_tokenizer()
    if settings.corpus and (warning := corpus_warning(settings.corpus, tokenizer)):
        logger.warning("%s", warning)
    request, words = resolve_words(settings, tokenizer, pad_token, languages, model_dim)
    if words is not None:
        logger.info("Vocabulary: %s.", words.summary())
        config_entries = {"vocabulary_source": words.source, "vocabulary_summary": words.summary()}
    return _ResolvedVocabulary(request, config_entries)


def _make_model(
    cached_teacher: CachedTeacher,
    settings: DistillRequest,
    config_entries: dict[str, Any],
    reporter: ProgressReporter,
    teacher: str,
    repo_id: str | None,
    revision: str | None,
    files: TeacherFiles | None = None,
) -> StaticModel:
    """Build the static model; `teacher` is the teacher's title, `repo_id` its name on the Hub, if any."""
    if files is not None:
        config_entries |= _teacher_entries(files, settings)
    vocabulary = cached_teacher.vocabulary()
    if vocabulary.entries is not None:
        if summary := vocabulary.entries.summary():
            logger.warning("Vocabulary: %s", summary)
        config_entries |= {"n_entries": vocabulary.entries.n_entries, "n_entry_rows": vocabulary.entries.n_rows}
    reporter.start("reduce")
    if settings.is_calibrated:
        is_english = uses_dictionary(settings, vocabulary.tokenizer, () if files is None else files.languages)
        resolved = dataclasses.replace(settings, dictionary="english" if is_english else "none")
        table, calibration_entries = _calibrate(vocabulary, cached_teacher, resolved, reporter)
        config_entries |= calibration_entries
    else:
        table = _reduce_and_weight(vocabulary, settings)
    reporter.start("finish")
    table = _zero_unknown_token(table, vocabulary.tokenizer)
    token_embeddings, weights = compression.quantize(
        _scale_to_float16(table.token_embeddings), table.weights, table.token_mapping, settings.quantize_to
    )
    return StaticModel(
        token_embeddings,
        vocabulary.tokenizer,
        weights=weights,
        token_mapping=table.token_mapping,
        normalize=True,
        base_model_name=repo_id,
        config={
            **({} if repo_id is None else {"tokenizer_name": repo_id}),
            "apply_pca": settings.pca_dims,
            "sif_coefficient": settings.sif_coefficient if settings.apply_zipf else None,
            "pooling": vocabulary.pooling,
            "m2v": {
                **settings.to_dict(),
                "mode": settings.mode,
                "teacher": teacher or None,
                "teacher_revision": revision,
                "version": __version__,
                **config_entries,
            },
        },
    )


def _teacher_entries(files: TeacherFiles, settings: DistillRequest) -> dict[str, Any]:
    """Return and log configuration entries about the teacher: modules that are not applied, and the prompt."""
    entries: dict[str, Any] = {}
    if not_applied := files.sentence_modules.names_not_applied(settings.applies_modules):
        logger.warning(
            "These modules of the teacher can't be applied to single tokens and are not part of the model: %s.",
            ", ".join(not_applied),
        )
        entries["modules_not_applied"] = list(not_applied)
    if settings.is_calibrated and files.prompts:
        prompt = files.prompt(settings.prompt_name)
        logger.info("Prompt before each sentence: %s.", repr(prompt) if prompt else "none")
        entries["prompt"] = prompt
    return entries


def _calibrate(
    vocabulary: TeacherVectors, cached_teacher: CachedTeacher, settings: DistillRequest, reporter: ProgressReporter
) -> tuple[_Table, dict[str, Any]]:
    """Return the table fitted to the teacher's sentence embeddings, and configuration entries about the fit.

    The table is fitted at full width and truncated afterwards. The quality is the same as when fitting only the
    retained columns, and the cached table can also be truncated to other dimensions.
    """
    if note := settings.corpus_note(len(deduplicate_texts(settings.corpus or ()))):
        logger.warning(note)
    n_rows, teacher_dim = vocabulary.vectors.shape
    is_truncated = settings.pca_dims is not None and n_rows > teacher_dim
    full: PCADims = "auto" if is_truncated else settings.pca_dims
    fitted = cached_teacher.fitted(full, lambda: _fit(vocabulary, cached_teacher, settings, full, reporter))
    if fitted.problem is not None:
        logger.warning(
            "The model is not calibrated: %s. The uncalibrated model is saved; a corpus of sentences may help.",
            fitted.problem,
        )
    token_embeddings = fitted.token_embeddings
    if is_truncated:
        token_embeddings = token_embeddings[:, : n_components(vocabulary.vectors, settings.pca_dims)]
    if settings.vocabulary_quantization is not None:
        rows, mapping, weights = compression.quantize_vocabulary(
            token_embeddings, None, settings.vocabulary_quantization
        )
        return _Table(rows, weights, mapping), fitted.config_entries
    return _Table(np.array(token_embeddings, order="C")), fitted.config_entries  # cached arrays are read-only


def _fit(
    vocabulary: TeacherVectors,
    cached_teacher: CachedTeacher,
    settings: DistillRequest,
    pca_dims: PCADims,
    reporter: ProgressReporter,
) -> Fitted:
    from m2v_core.distillation.calibration.closed_form import InitialTable
    from m2v_core.distillation.calibration.fit import Sentences, calibrate

    prepared = cached_teacher.prepared(
        pca_dims, lambda: _prepare(vocabulary, cached_teacher, settings, pca_dims, reporter)
    )
    weights = _weights(vocabulary, settings)
    starts = [InitialTable(prepared.reduced, weights)]
    if prepared.directions is not None:
        starts.append(InitialTable(prepared.directions, row_lengths(prepared.reduced) * weights))
    has_text = prepared.config_entries["n_dictionary_lines"] + prepared.config_entries["n_corpus_texts"] > 0
    fitted = calibrate(starts, Sentences(prepared.counts, prepared.targets), has_text, reporter)
    entries = prepared.config_entries | {"calibrated": fitted.problem is None}
    return Fitted(fitted.token_embeddings, entries, fitted.problem)


def _prepare(
    vocabulary: TeacherVectors,
    cached_teacher: CachedTeacher,
    settings: DistillRequest,
    pca_dims: PCADims,
    reporter: ProgressReporter,
) -> Prepared:
    """Return the teacher's embeddings of bags and sentences, and the initial tables of the fit."""
    from m2v_core.distillation.calibration.contexts import contextual_directions
    from m2v_core.distillation.calibration.fit import Sentences, count_tokens, prepare_sentences

    limits = settings.limits
    lines = dictionary_lines(limits.n_dictionary_lines) if settings.dictionary == "english" else []
    corpus = sample_evenly(deduplicate_texts(settings.corpus or ()), limits.n_corpus_texts)
    bags: list[str] = []
    if settings.recipe == "calibrated":
        words, ids = whole_words(vocabulary.tokenizer)
        bags = synthetic_bags(words, vocabulary.ranks[ids], limits.n_bags)
        if not bags:
            logger.warning("The vocabulary has %d whole words, too few for bags of random words.", len(words))
    reduced = reduce_dims(vocabulary.vectors, pca_dims)
    n_rows = len(reduced)
    kinds = {stage: texts for stage, texts in (("bags", bags), ("dictionary", lines), ("corpus", corpus)) if texts}
    text_outputs = [
        cached_teacher.sentences(texts, vocabulary.tokenizer, n_rows, stage) for stage, texts in kinds.items()
    ]
    reporter.start("prepare")
    unk_id = unknown_token_id(vocabulary.tokenizer)
    sentences = [
        Sentences(count_tokens(vocabulary.tokenizer, texts, unk_id, n_rows), outputs.embeddings)
        for texts, outputs in zip(kinds.values(), text_outputs, strict=True)
    ]
    directions = None
    # The pooler's output is not a hidden state, and reduced vectors are not in the space of hidden states.
    if (
        text_outputs
        and vocabulary.pooling != "pooler"
        and text_outputs[0].state_sums.shape[1] == vocabulary.vectors.shape[1]
    ):
        directions = contextual_directions(vocabulary.vectors, text_outputs, pca_dims, reduced.shape[1])
    prepared = prepare_sentences(sentences, n_rows)
    config_entries = {"n_bags": len(bags), "n_dictionary_lines": len(lines), "n_corpus_texts": len(corpus)}
    return Prepared(reduced, directions, prepared.counts, prepared.targets, config_entries)


@dataclass(frozen=True)
class _Table:
    """An embedding table before compression.

    Attributes:
        token_embeddings: `(n_rows, dim) float32`.
        weights: `(n_vocabulary,) float32`; None if all are 1.
        token_mapping: `(n_vocabulary,) int32`; None if token i has row i.
    """

    token_embeddings: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32] | None = None
    token_mapping: npt.NDArray[np.int32] | None = None


def _reduce_and_weight(vocabulary: TeacherVectors, settings: DistillRequest) -> _Table:
    if settings.vocabulary_quantization is None:
        reduced = reduce_dims(vocabulary.vectors, settings.pca_dims, drop_top=settings.recipe == "fast")
        return _Table(reduced * _weights(vocabulary, settings)[:, None])
    # As in Model2Vec, tokens are clustered in the teacher's space, without frequency weights.
    centroids, token_mapping, weights = compression.quantize_vocabulary(
        vocabulary.vectors, _weights(vocabulary, settings), settings.vocabulary_quantization
    )
    return _Table(reduce_dims(centroids, settings.pca_dims), weights, token_mapping)


def _weights(vocabulary: TeacherVectors, settings: DistillRequest) -> npt.NDArray[np.float32]:
    """Return the weight of each row by its rank, `(n_rows,)`."""
    n_rows = len(vocabulary.vectors)
    if not settings.apply_zipf:
        return np.ones(n_rows, dtype=np.float32)
    return rank_weights(n_rows, settings.weighting, settings.sif_coefficient)[vocabulary.ranks].astype(np.float32)


def _zero_unknown_token(table: _Table, tokenizer: Tokenizer) -> _Table:
    """Return the table with a zero row for the unknown token, which carries no meaning."""
    unk_id = unknown_token_id(tokenizer)
    if unk_id is None:
        return table
    token_embeddings, weights, token_mapping = table.token_embeddings, table.weights, table.token_mapping
    # At word level the teacher embeds only the words, and the unknown token follows them.
    if weights is None or token_mapping is None:
        if unk_id == len(token_embeddings):
            token_embeddings = np.append(token_embeddings, np.zeros_like(token_embeddings[:1]), axis=0)
        token_embeddings[unk_id] = 0.0
        return _Table(token_embeddings)
    if unk_id == len(weights):
        weights, token_mapping = np.append(weights, np.float32(0)), np.append(token_mapping, np.int32(0))
    weights[unk_id] = 0.0
    return _Table(token_embeddings, weights, token_mapping)


def _scale_to_float16(token_embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Scale the table down if it exceeds the range of float16; embeddings are normalized to unit length anyway."""
    peak = np.abs(token_embeddings).max(initial=0.0)
    limit = np.finfo(np.float16).max
    return token_embeddings if peak <= limit else token_embeddings * np.float32(limit / peak)
