"""From a teacher and a vocabulary to a static model, step by step as in the paper.

Source: Model2Vec, https://github.com/MinishLab/model2vec. The recipe `model2vec` is its method as published.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from m2v_core._version import __version__
from m2v_core.distillation.cache import Fitted, Prepared, Readings, TeacherVectors, VectorCache
from m2v_core.distillation.calibration.bags import synthetic_bags, usable_texts, whole_words
from m2v_core.distillation.calibration.dictionary import dictionary_lines, takes_dictionary
from m2v_core.distillation.reading import Elsewhere, Reading
from m2v_core.distillation.reduction import n_components, reduce_dims
from m2v_core.distillation.settings import (
    DEFAULTS,
    Dictionary,
    DistillRequest,
    PCADims,
    Pooling,
    Precision,
    Recipe,
    Weighting,
)
from m2v_core.distillation.teacher.elsewhere import VocabularyReader
from m2v_core.distillation.teacher.files import TeacherFiles, files_of_folder
from m2v_core.distillation.teacher.requirements import check_requirements
from m2v_core.distillation.teacher.source import locate_teacher
from m2v_core.distillation.weighting import rank_weights
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
    vocabulary: Sequence[str] | None = None,
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
    trust_remote_code: bool = False,
    recipe: Recipe = DEFAULTS.recipe,
    corpus: Sequence[str] | None = None,
    cache_folder: str | Path | None = None,
    reader: VocabularyReader | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
    revision: str | None = None,
) -> StaticModel:
    r"""Returns a static model distilled from a Sentence Transformer.

    Args:
        model_name: A folder, or a repository on the Hub. `sentence-transformers/all-MiniLM-L6-v2` comes along and
            is used where the Hub can't be reached.
        vocabulary: Words and phrases by falling frequency. None: the teacher's own pieces.
        device: `"cpu"`, `"cuda"`, `"mps"`, or None (or `"auto"`) to choose.
        pca_dims: Dimensions to keep, or the share of variance to explain (0 to 1), or `"auto"` to rotate without
            reducing, or None for no PCA.
        apply_zipf: Whether rows are weighted by rank at all.
        use_subword: With `vocabulary`: True joins its words to the teacher's pieces; False makes a word-level
            model, for which unknown words yield nothing.
        sif_coefficient: The a of SIF weights; None weighs all rows alike.
        weighting: `"sif"`, or `"zipf"` as Model2Vec had it before 0.4.0.
        token_remove_pattern: The teacher's pieces that begin with a match of this regular expression are dropped.
        pooling: How the teacher's hidden states become a vector: `"mean"`, `"piece_cls"`, `"piece_half_cls"`,
            `"first"`, `"last"`, `"pooler"`; see `settings.Pooling`. `"auto"` is `"mean"` for the recipe `model2vec`,
            and the best there is for the others.
        quantize_to: `"float32"`, `"float16"` or `"int8"`.
        vocabulary_quantization: Share this many rows between all tokens (k-means); None: one row a token.
        prompt_name: The teacher's prompt to put before each sentence that it reads, such as `"query"`; None for its
            default prompt, if it has one.
        dictionary: `"english"` fits the table to definitions and example sentences of WordNet too, `"none"` does not;
            `"auto"` does where the recipe is `"calibrated"`, and teacher and vocabulary are English.
        trust_remote_code: Whether code that comes with the teacher may run.
        recipe: `"model2vec"`, the method as published; `"fast"`, the best at the same cost; or `"calibrated"`, which
            has the teacher read tens of thousands of texts too and fits the table to its embeddings of them: bags of
            random words, and a dictionary for English teachers.
        corpus: Sentences like those that the model is for, without labels, a thousand or more: the table is fitted to
            what the teacher says of them, with either `"fast"` or `"calibrated"`. See `bulk.read_texts` for files.
        cache_folder: Keep the teacher's vectors here, and take them from here the next time: then other dimensions,
            weights or precisions take a second. Up to 2 GiB.
        reader: Has the vocabulary read in other processes, such as `m2v_core.distributed.vocabulary.ClusterReader` on a
            Ray cluster. Sentences, `"auto"` pooling of a teacher that pools otherwise than by the mean, and all that
            follows are done here; what needs more than 4 GiB of vectors in memory at once is refused, such as
            `"calibrated"` for a million words. None: all is done here.
        progress: Receives `Progress` events of the stages `download` (in bytes, where the Hub has to be asked), `load`,
            `encode`, `read`, `reduce`, `calibrate` and `finish`. An exception it raises stops the work and passes
            through.
        cancel: Set it from another thread to stop the work within a batch.
        revision: Branch, tag or commit of the teacher on the Hub; None for `main`.

    Returns:
        A model with `normalize` on; its table is `(n_rows, dim)` of `quantize_to`.

    Raises:
        InputError: an argument is out of its range.
        VocabularyError: the vocabulary holds no usable word.
        NotFoundError, HubError: there is no such teacher, or the Hub can't be reached.
        TeacherError: the teacher can't be used; RemoteCodeError and TeacherOutputError are of this kind.
        DeviceError: the device isn't there.
        MissingExtraError: torch or transformers is not installed.
        SaveError, LimitError: with a reader, vectors can't be written, or workers die again and again.
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
        recipe=recipe,
        corpus=corpus,
    )
    reporter = ProgressReporter(progress, cancel)
    if cancel is not None and cancel.is_set():
        raise Cancelled("Cancelled before it began; nothing was written.")
    source = locate_teacher(model_name, revision, reporter)
    reporter.start("load")
    files = files_of_folder(source.name, source.folder, "folder")
    check_requirements(files, trust_remote_code)
    files.prompt(prompt_name)
    cache = None if cache_folder is None else VectorCache(cache_folder)
    elsewhere = None
    if reader is not None:
        elsewhere = Elsewhere(reader, source, device, trust_remote_code, settings.applies_modules)
        device = "cpu" if device == "cpu" else None  # here there may be none of its GPUs

    def load() -> Teacher:
        from m2v_core.distillation.teacher.teacher import Teacher  # torch is not needed until here

        return Teacher.load(
            source,
            device,
            trust_remote_code,
            is_lazy=elsewhere is not None,
            prompt_name=prompt_name,
            applies_modules=settings.applies_modules,
        )

    reading = Reading(load, settings, reporter, source, cache, elsewhere, files.sentence_modules.output_dim)
    return _make_model(reading, settings, reporter, source.title, source.repo_id, source.revision, files)


def distill_from_model(
    model: Any,
    tokenizer: Any,
    vocabulary: Sequence[str] | None = None,
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
    recipe: Recipe = DEFAULTS.recipe,
    corpus: Sequence[str] | None = None,
    progress: ProgressCallback | None = None,
    cancel: threading.Event | None = None,
) -> StaticModel:
    """Returns a static model distilled from a transformers model and fast tokenizer that are loaded already.

    Everything but the first two arguments is as in `distill`. The model comes back as it was: on its device, in its
    mode and precision.

    Args:
        model: A transformers `PreTrainedModel`.
        tokenizer: Its fast tokenizer, of transformers or of tokenizers.
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
        recipe=recipe,
        corpus=corpus,
    )
    reporter = ProgressReporter(progress, cancel)
    reporter.start("load")
    from m2v_core.distillation.teacher.teacher import Teacher

    teacher = Teacher.from_model(model, tokenizer, device)
    reading = Reading(lambda: teacher, settings, reporter, None, None)
    name = str(getattr(model, "name_or_path", ""))
    # transformers notes the commit of what it has from the Hub; all else was in a folder.
    commit = getattr(getattr(model, "config", None), "_commit_hash", None)
    repo_id = name if commit and not Path(name).is_dir() and is_repo_id(name) else None
    return _make_model(reading, settings, reporter, repo_id or Path(name).name, repo_id, None)


def _make_model(
    reading: Reading,
    settings: DistillRequest,
    reporter: ProgressReporter,
    teacher: str,
    repo_id: str | None,
    revision: str | None,
    files: TeacherFiles | None = None,
) -> StaticModel:
    """Read, reduce and weight, calibrate, compress; `teacher` is its title, `repo_id` its name on the Hub, if any."""
    noted = {} if files is None else _teacher_notes(files, settings)
    read = reading.vocabulary()
    if read.entries is not None:
        if summary := read.entries.summary():
            logger.warning("Vocabulary: %s", summary)
        noted |= {"n_entries": read.entries.n_entries, "n_entry_rows": read.entries.n_rows}
    reporter.start("reduce")
    if settings.is_calibrated:
        is_english = takes_dictionary(settings, read.tokenizer, () if files is None else files.languages)
        decided = dataclasses.replace(settings, dictionary="english" if is_english else "none")
        table, calibration_notes = _calibrated(read, reading, decided, reporter)
        noted |= calibration_notes
    else:
        table = _reduce_and_weight(read, settings)
    reporter.start("finish")
    table = _without_unknown(table, read.tokenizer)
    token_embeddings, weights = compression.quantize(
        _within_float16(table.token_embeddings), table.weights, table.token_mapping, settings.quantize_to
    )
    return StaticModel(
        token_embeddings,
        read.tokenizer,
        weights=weights,
        token_mapping=table.token_mapping,
        normalize=True,
        base_model_name=repo_id,
        config={
            **({} if repo_id is None else {"tokenizer_name": repo_id}),
            "apply_pca": settings.pca_dims,
            "sif_coefficient": settings.sif_coefficient if settings.apply_zipf else None,
            "pooling": read.pooling,
            "m2v": {
                **settings.to_dict(),
                "mode": settings.mode,
                "teacher": teacher or None,
                "teacher_revision": revision,
                "version": __version__,
                **noted,
            },
        },
    )


def _teacher_notes(files: TeacherFiles, settings: DistillRequest) -> dict[str, Any]:
    """What to note of the teacher in the configuration, logged too: modules that are not applied, and the prompt."""
    noted: dict[str, Any] = {}
    if not_applied := files.sentence_modules.names_not_applied(settings.applies_modules):
        logger.warning(
            "The model has no part of these modules of the teacher, which are not applied to single tokens: %s.",
            ", ".join(not_applied),
        )
        noted["modules_not_applied"] = list(not_applied)
    if settings.is_calibrated and files.prompts:
        prompt = files.prompt(settings.prompt_name)
        logger.info("The teacher reads %s before each sentence.", repr(prompt) if prompt else "no prompt")
        noted["prompt"] = prompt
    return noted


def _calibrated(
    read: TeacherVectors, reading: Reading, settings: DistillRequest, reporter: ProgressReporter
) -> tuple[_Table, dict[str, Any]]:
    """The table fitted to what the teacher says of sentences, and what to note of that in the configuration.

    It is fitted at full width and cut afterwards, which gives as good a model as fitting the few columns alone: so the
    next model of other dimensions is cut from the same table.
    """
    n_rows, teacher_dim = read.vectors.shape
    is_cut = settings.pca_dims is not None and n_rows > teacher_dim
    full: PCADims = "auto" if is_cut else settings.pca_dims
    fitted = reading.fitted(full, lambda: _fit(read, reading, settings, full, reporter))
    if fitted.problem is not None:
        logger.warning(
            "The model is not calibrated: %s. It can be used as it is; a corpus of your own sentences may help.",
            fitted.problem,
        )
    token_embeddings = fitted.token_embeddings
    if is_cut:
        token_embeddings = token_embeddings[:, : n_components(read.vectors, settings.pca_dims)]
    if settings.vocabulary_quantization is not None:
        return _Table(*_shared(token_embeddings, settings.vocabulary_quantization)), fitted.noted
    return _Table(np.array(token_embeddings, order="C")), fitted.noted  # kept ones are read-only


def _fit(
    read: TeacherVectors, reading: Reading, settings: DistillRequest, pca_dims: PCADims, reporter: ProgressReporter
) -> Fitted:
    from m2v_core.distillation.calibration.closed_form import Start
    from m2v_core.distillation.calibration.fit import Sentences, calibrate

    prepared = reading.prepared(pca_dims, lambda: _prepare(read, reading, settings, pca_dims))
    weights = _weights(read, settings)
    starts = [Start(prepared.reduced, weights)]
    if prepared.directions is not None:
        starts.append(Start(prepared.directions, row_lengths(prepared.reduced) * weights))
    has_text = prepared.noted["n_dictionary_lines"] + prepared.noted["n_corpus_texts"] > 0
    fitted = calibrate(starts, Sentences(prepared.counts, prepared.targets), has_text, reporter)
    return Fitted(fitted.token_embeddings, prepared.noted | {"calibrated": fitted.problem is None}, fitted.problem)


def _prepare(read: TeacherVectors, reading: Reading, settings: DistillRequest, pca_dims: PCADims) -> Prepared:
    """What the teacher says of bags and sentences, and the tables that fitting may start from."""
    from m2v_core.distillation.calibration.contexts import contextual_directions
    from m2v_core.distillation.calibration.fit import Sentences, count_tokens, usable_sentences

    lines = dictionary_lines() if settings.dictionary == "english" else []
    corpus = usable_texts(settings.corpus or ())
    bags: list[str] = []
    if settings.recipe == "calibrated":
        words, ids = whole_words(read.tokenizer)
        bags = synthetic_bags(words, read.ranks[ids])
        if not bags:
            logger.warning("The vocabulary has %d whole words, too few to make sentences of.", len(words))
    reduced = reduce_dims(read.vectors, pca_dims)
    n_rows = len(reduced)
    readings: list[Readings] = []
    sentences: list[Sentences] = []
    for texts in filter(None, (bags, lines, corpus)):
        readings.append(reading.sentences(texts, read.tokenizer, n_rows))
        counts = count_tokens(read.tokenizer, texts, unknown_token_id(read.tokenizer), n_rows)
        sentences.append(Sentences(counts, readings[-1].embeddings))
    directions = None
    # The pooler's outcome is no hidden state, and vectors that were reduced lie in another space than states.
    if readings and read.pooling != "pooler" and readings[0].state_sums.shape[1] == read.vectors.shape[1]:
        directions = contextual_directions(read.vectors, readings, pca_dims, reduced.shape[1])
    usable = usable_sentences(sentences, n_rows)
    noted = {"n_bags": len(bags), "n_dictionary_lines": len(lines), "n_corpus_texts": len(corpus)}
    return Prepared(reduced, directions, usable.counts, usable.targets, noted)


def _shared(
    token_embeddings: npt.NDArray[np.float32], n_shared: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
    """The rows that all tokens share, and each token's weight and row."""
    rows, token_mapping, weights = compression.quantize_vocabulary(token_embeddings, None, n_shared)
    return rows, weights, token_mapping


@dataclass(frozen=True)
class _Table:
    """A table of token embeddings on its way into a model.

    Attributes:
        token_embeddings: `(n_rows, dim) float32`.
        weights: `(n_vocabulary,) float32`; None for ones.
        token_mapping: `(n_vocabulary,) int32`; None where token i has row i.
    """

    token_embeddings: npt.NDArray[np.float32]
    weights: npt.NDArray[np.float32] | None = None
    token_mapping: npt.NDArray[np.int32] | None = None


def _reduce_and_weight(read: TeacherVectors, settings: DistillRequest) -> _Table:
    if settings.vocabulary_quantization is None:
        reduced = reduce_dims(read.vectors, settings.pca_dims, drop_top=settings.recipe == "fast")
        return _Table(reduced * _weights(read, settings)[:, None])
    # As in Model2Vec, similar tokens are found in the teacher's space, and the frequency stays out of it.
    centroids, token_mapping, weights = compression.quantize_vocabulary(
        read.vectors, _weights(read, settings), settings.vocabulary_quantization
    )
    return _Table(reduce_dims(centroids, settings.pca_dims), weights, token_mapping)


def _weights(read: TeacherVectors, settings: DistillRequest) -> npt.NDArray[np.float32]:
    """`(n_rows,)`, by each row's rank."""
    n_rows = len(read.vectors)
    if not settings.apply_zipf:
        return np.ones(n_rows, dtype=np.float32)
    return rank_weights(n_rows, settings.weighting, settings.sif_coefficient)[read.ranks].astype(np.float32)


def _without_unknown(table: _Table, tokenizer: Tokenizer) -> _Table:
    """The table with a row of zeros for the unknown token, which says nothing about a text."""
    unk_id = unknown_token_id(tokenizer)
    if unk_id is None:
        return table
    token_embeddings, weights, token_mapping = table.token_embeddings, table.weights, table.token_mapping
    # At word level the teacher read the words alone, and the unknown token comes after them.
    if weights is None or token_mapping is None:
        if unk_id == len(token_embeddings):
            token_embeddings = np.append(token_embeddings, np.zeros_like(token_embeddings[:1]), axis=0)
        token_embeddings[unk_id] = 0.0
        return _Table(token_embeddings)
    if unk_id == len(weights):
        weights, token_mapping = np.append(weights, np.float32(0)), np.append(token_mapping, np.int32(0))
    weights[unk_id] = 0.0
    return _Table(token_embeddings, weights, token_mapping)


def _within_float16(token_embeddings: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The table scaled down, where need be, to what float16 holds: embeddings are unit length in the end."""
    peak = np.abs(token_embeddings).max(initial=0.0)
    limit = np.finfo(np.float16).max
    return token_embeddings if peak <= limit else token_embeddings * np.float32(limit / peak)
