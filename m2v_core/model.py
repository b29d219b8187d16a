"""The static model: a table of token embeddings, a tokenizer, and the mean."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from os import PathLike
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from tokenizers import Tokenizer

from m2v_core.encoder.engine import Engine
from m2v_core.encoder.plain import Table
from m2v_core.encoder.progress_bar import progress_bar
from m2v_core.encoder.stream import blocks_of_texts
from m2v_core.encoder.tensors import as_tensor
from m2v_core.encoder.texts import checked_batch_size, checked_max_length, checked_texts, well_formed
from m2v_core.errors import InputError, ModelFormatError
from m2v_core.native.cosines import cosines
from m2v_core.progress import ProgressCallback, ProgressReporter
from m2v_core.storage import compression
from m2v_core.storage.formats import DEFAULT_MAX_LENGTH, StoredModel
from m2v_core.storage.front_matter import FrontMatter, as_list
from m2v_core.storage.mapped_file import check_mapped
from m2v_core.tokenization.coverage import Coverage, CoverageMeter
from m2v_core.tokenization.ids import check_tokenizer, unknown_token_id

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from m2v_core.hub.push import Pushed
    from m2v_core.storage.card import Measured
    from m2v_core.storage.export import ExportFormat


class StaticModel:
    """Computes text embeddings by looking up a row for each token and taking the mean.

    Models are immutable, so any number of threads can share one.

    Args:
        token_embeddings: (n_rows, dim) float32, float16 or int8, finite. Not copied.
        tokenizer: Its ids are 0 to n_vocabulary - 1. Copied; truncation and padding of the copy are disabled.
        weights: (n_vocabulary,) finite float32 factor for each token's row; None if all are 1.
        token_mapping: (n_vocabulary,) int32 row of each token, in [0, n_rows); None if token i has row i.
        normalize: Whether embeddings have unit length.
        max_length: Maximum number of tokens per text; None for no limit.
        config: The content of `config.json`. Copied.
        base_model_name: Name of the teacher.
        language: Languages of the model, as ISO codes.
        prompts: Prompts by name, inserted before texts as in Sentence Transformers. Copied.
        default_prompt_name: The prompt that `encode` uses by default; None for none.

    Attributes:
        token_embeddings: The table, as passed; read-only if it is mapped from a file.
        weights: As passed, float32.
        token_mapping: As passed, int32.
        tokenizer: The model's own tokenizer. Read-only by convention.
        config: The configuration, as passed.
        prompts: As passed, plus empty ones named `"query"` and `"document"`; empty if all prompts are empty.
        default_prompt_name: As passed; None without prompts.

    Raises:
        InputError: An argument has the wrong type, dtype, shape or range.
        ModelFormatError: The parts are inconsistent, or contain NaN or infinity.
    """

    def __init__(
        self,
        token_embeddings: NDArray[Any],
        tokenizer: Tokenizer,
        *,
        weights: NDArray[Any] | None = None,
        token_mapping: NDArray[Any] | None = None,
        normalize: bool = True,
        max_length: int | None = DEFAULT_MAX_LENGTH,
        config: Mapping[str, Any] | None = None,
        base_model_name: str | None = None,
        language: list[str] | None = None,
        prompts: Mapping[str, str] | None = None,
        default_prompt_name: str | None = None,
        _is_own_tokenizer: bool = False,  # an unshared tokenizer needs no copy
        _front_matter: FrontMatter | None = None,  # replaces the arguments base_model_name and language
    ) -> None:
        self.token_embeddings = compression.checked_table(token_embeddings)
        n_rows = len(token_embeddings)
        self._tokens = check_tokenizer(tokenizer, n_rows if token_mapping is None else len(token_mapping))
        self.weights = compression.checked_weights(weights, len(self._tokens))
        self.token_mapping = compression.checked_mapping(token_mapping, len(self._tokens), n_rows)
        self.config: dict[str, Any] = copy.deepcopy(dict(config or {}))
        self._front_matter = _front_matter
        if _front_matter is None:
            self.base_model_name = base_model_name
            self.language = language
        # All models of Sentence Transformers have these two prompts, usually empty, which have no effect.
        self.prompts = {"query": "", "document": "", **(prompts or {})}
        if not any(self.prompts.values()):
            self.prompts = {}
        self.default_prompt_name = default_prompt_name if self.prompts else None
        self._prompt(default_prompt_name)
        self._normalize = bool(normalize)
        self._max_length = checked_max_length(max_length)

        # Truncating or padding with the tokenizer would change its state, which other threads may be reading.
        own: Tokenizer = tokenizer if _is_own_tokenizer else Tokenizer.from_str(tokenizer.to_str())
        own.no_truncation()
        own.no_padding()
        self.tokenizer = own
        self._unk_token_id = unknown_token_id(own)
        self._median_token_length = int(np.median(np.fromiter(map(len, self._tokens), np.int64, len(self._tokens))))

    # Both are lazy, for subclasses with replaceable parts.
    @cached_property
    def _table(self) -> Table:
        return Table(self.token_embeddings, self.weights, self.token_mapping, self._unk_token_id)

    @cached_property
    def _engine(self) -> Engine:
        return Engine(self._table, self.tokenizer, self._median_token_length, self._tokens)

    @classmethod
    def from_pretrained(
        cls,
        path: str | PathLike[str],
        token: str | None = None,
        normalize: bool | None = None,
        subfolder: str | None = None,
        quantize_to: str | None = None,
        dimensionality: int | None = None,
        vocabulary_quantization: int | None = None,
        max_length: int | EllipsisType | None = ...,
        revision: str | None = None,
        endpoint: str | None = None,
        *,
        load_in_memory: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Load a model from a folder or Hub repository, in any layout of Model2Vec or Sentence Transformers.

        The table is mapped read-only from its file: loading copies nothing, processes that load the same file share
        one table in memory, and `token_embeddings` is not writable. A float64 table is converted, and an unaligned one
        is copied. A pickled or deep-copied model contains the table itself, not the path of its file.

        The file may be replaced (also by `save_pretrained`) or deleted while the model is in use: on POSIX the model
        keeps the old content; on Windows both raise an error as long as the model exists, and `save_pretrained` then
        leaves the folder unchanged. Truncating the file in place makes the next `encode` raise ModelFormatError; while
        `encode` is reading the table, it can kill the process (SIGBUS). Overwriting the file in place changes the
        embeddings. `load_in_memory=True` avoids all of this.

        Args:
            path: A folder, or else a Hub repository such as `"minishlab/potion-base-8M"`.
            token: Hub token, for private and gated repositories.
            normalize: Overrides the model's setting; None keeps it.
            subfolder: Folder of the model inside `path`.
            quantize_to: `"float32"`, `"float16"` or `"int8"`; None keeps the number format.
            dimensionality: Number of leading dimensions to keep; None for all. Normalized embeddings still have unit
                length; `truncate_dim` in Sentence Transformers truncates after normalizing, so its rows are shorter.
            vocabulary_quantization: Number of rows shared by all tokens; None for one row per token.
            max_length: Overrides the model's maximum number of tokens; None for no limit.
            revision: Branch, tag or commit of the Hub repository.
            endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
            load_in_memory: Copy the table into this process's memory instead of mapping it.
            force_download: Download the files of a Hub repository again, even if they are cached.

        Raises:
            NotFoundError: No such folder and no such repository.
            HubError: There is no such folder, and the Hub can't be reached or rejected the request.
            ModelFormatError: The folder contains no static model, or a damaged one.
            InputError: A compression argument is out of range.
            MissingExtraError: `vocabulary_quantization` without scikit-learn.
        """
        from m2v_core.hub.opening import open_model

        folder, stored = open_model(
            path,
            token=token,
            revision=revision,
            subfolder=subfolder,
            endpoint=endpoint,
            load_in_memory=load_in_memory,
            force_download=force_download,
        )
        try:
            model = cls(
                stored.token_embeddings,
                stored.tokenizer,
                weights=_without_idle(stored.weights, stored.tokenizer),
                token_mapping=stored.token_mapping,
                normalize=stored.normalize if normalize is None else normalize,
                max_length=stored.max_length if isinstance(max_length, EllipsisType) else max_length,
                config=stored.config,
                prompts=stored.prompts,
                default_prompt_name=stored.default_prompt_name,
                _is_own_tokenizer=True,
                _front_matter=stored.front_matter,
            )
        except ModelFormatError as error:
            raise ModelFormatError(f"{folder}: {error}") from error
        if quantize_to is None and dimensionality is None and vocabulary_quantization is None:
            return model
        return model.compressed(quantize_to, dimensionality, vocabulary_quantization)

    # The card of a loaded model is parsed on first access.
    @cached_property
    def base_model_name(self) -> str | None:
        """Name of the teacher."""
        return next(iter(as_list(self._stated().get("base_model"))), None)

    @cached_property
    def language(self) -> list[str] | None:
        """Languages of the model, as ISO codes."""
        return as_list(self._stated().get("language")) or None

    def _stated(self) -> dict[str, Any]:
        return {} if self._front_matter is None else self._front_matter.fields()

    def compressed(
        self,
        quantize_to: str | None = None,
        dimensionality: int | None = None,
        vocabulary_quantization: int | None = None,
    ) -> Self:
        """Return a smaller model; this one is unchanged.

        Args:
            quantize_to: `"float32"`, `"float16"` or `"int8"`; None keeps the number format.
            dimensionality: Number of leading dimensions to keep; None for all.
            vocabulary_quantization: Number of rows shared by all tokens; None for one row per token.

        Raises:
            InputError: An argument is out of range, or the vocabulary is already quantized.
            MissingExtraError: `vocabulary_quantization` without scikit-learn.
        """
        check_mapped(self.token_embeddings)
        table, weights, mapping = compression.compressed(
            self.token_embeddings,
            self.weights,
            self.token_mapping,
            quantize_to=quantize_to,
            dimensionality=dimensionality,
            vocabulary_quantization=vocabulary_quantization,
        )
        return self.with_table(table, weights, mapping)

    def with_table(
        self,
        token_embeddings: NDArray[Any],
        weights: NDArray[np.float32] | None = None,
        token_mapping: NDArray[np.int32] | None = None,
    ) -> Self:
        """Return the same model with another table; see `StaticModel` for the arguments."""
        return type(self)(
            token_embeddings,
            self.tokenizer,
            weights=weights,
            token_mapping=token_mapping,
            normalize=self.normalize,
            max_length=self.max_length,
            config=self.config,
            base_model_name=self.base_model_name,
            language=self.language,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
        )

    def save_pretrained(
        self,
        path: str | PathLike[str],
        model_name: str | None = None,
        subfolder: str | None = None,
        *,
        license: str | None = None,
        measured: Measured | None = None,
    ) -> None:
        """Write the model in a format that model2vec, Sentence Transformers and this library can load.

        Atomic: if writing fails, existing files at `path` are unchanged.

        Args:
            path: The folder to write; created if missing. Other files in it are left alone.
            model_name: Name in the model card; None for the name of the folder.
            subfolder: Folder inside `path` to write to instead.
            license: SPDX id for the model card; None states no license.
            measured: Measurements of the model, for its card.

        Raises:
            SaveError: The folder can't be written, or the disk is full.
        """
        from m2v_core.storage import local

        folder = Path(path).expanduser() / (subfolder or "")
        local.save(
            folder,
            self.stored(),
            unk_token_id=self.unk_token_id,
            model_name=model_name,
            license=license,
            measured=measured,
        )

    def push_to_hub(
        self,
        repo_id: str,
        token: str | None = None,
        private: bool = True,
        revision: str | None = None,
        create_pr: bool = False,
        commit_message: str | None = None,
        *,
        overwrite: bool = False,
        license: str | None = None,
        measured: Measured | None = None,
        endpoint: str | None = None,
        progress: ProgressCallback | None = None,
        cancel: threading.Event | None = None,
    ) -> Pushed:
        """Publish the model on the Hub with a model card, in one commit, and verify the upload.

        Nothing is overwritten without `overwrite`. If publishing fails, the Hub never has an incomplete model, and the
        same call resumes the upload; see `hub.push.push_folder`.

        Args:
            repo_id: `owner/name`, or `name` for the token's own account.
            token: Hub token with write access; None for the saved token of huggingface_hub.
            private: Whether a new repository is private; existing ones keep their visibility.
            revision: Branch to commit to, created if missing; None for `main`.
            create_pr: Open a pull request instead.
            commit_message: Title of the commit.
            overwrite: Whether to replace an existing model.
            license: SPDX id for the model card; None states no license.
            measured: Measurements of the model, for its card.
            endpoint: URL of another Hub than huggingface.co or `HF_ENDPOINT`.
            progress: Receives the stages `"save"`, `"connect"`, `"upload"` (bytes) and `"verify"` (bytes).
            cancel: Set it to stop.

        Raises:
            InputError: `repo_id` is not a valid name, or the Hub rejects the card.
            RepoExistsError: The repository contains a model, and `overwrite` is False.
            HubError: The Hub can't be reached, or rejected a request; the message states what is on the Hub now.
            SaveError: The model can't be written to the system's temporary folder.
            Cancelled: `cancel` was set.
        """
        import tempfile

        from m2v_core.hub import push

        push.check_repo_id(repo_id)
        ProgressReporter(progress, cancel).start("save")
        with tempfile.TemporaryDirectory(prefix="m2v-push-") as folder:
            path = Path(folder) / "model"
            self.save_pretrained(path, repo_id, license=license, measured=measured)
            return push.push_folder(
                path,
                repo_id,
                token=token,
                private=private,
                revision=revision,
                create_pr=create_pr,
                overwrite=overwrite,
                commit_message=commit_message,
                endpoint=endpoint,
                progress=progress,
                cancel=cancel,
            )

    def export(self, path: str | PathLike[str], format: ExportFormat) -> None:
        """Write the model in a format for programs without this library.

        Args:
            path: `"onnx"` writes a folder for transformers.js and onnxruntime, `"word2vec"` a text file for gensim
                and spaCy with one line per whole word of the vocabulary: the vector it adds to a mean, of any
                length. Existing files are replaced once the new ones are complete.
            format: `"onnx"` or `"word2vec"`; see `storage.export`.

        Raises:
            InputError: Another format, or the model can't be written in this format.
            MissingExtraError: `"onnx"` without the package onnx.
            SaveError: The file or folder can't be written.
        """
        from m2v_core.storage import export
        from m2v_core.tokenization.spelling import word_ids

        path = Path(path).expanduser()
        if format == "onnx":
            export.write_onnx(self.stored(), path, unk_token_id=self.unk_token_id)
        elif format == "word2vec":
            counts = self._table.counts()
            counts[self.special_token_ids] = False
            words = word_ids(self.tokens, counts)
            vectors = self._table.rows(np.array(list(words.values()), dtype=np.int64))  # (n_words, dim)
            export.write_word2vec(list(words), vectors, path)
        else:
            raise InputError(f"Unknown export format {format!r}; use 'onnx' or 'word2vec'.")

    @property
    def embedding(self) -> NDArray[Any]:
        """Same as `token_embeddings`; the name in model2vec."""
        return self.token_embeddings

    @property
    def dim(self) -> int:
        """Width of the embeddings."""
        return int(self.token_embeddings.shape[1])

    @property
    def tokens(self) -> tuple[str, ...]:
        """The vocabulary, in the order of the ids."""
        return self._tokens

    @property
    def normalize(self) -> bool:
        """Whether embeddings have unit length."""
        return self._normalize

    @property
    def max_length(self) -> int | None:
        """Maximum number of tokens per text; None for no limit."""
        return self._max_length

    @property
    def max_characters(self) -> int | None:
        """Maximum number of characters per text before tokenization; None for no limit.

        Source: Model2Vec truncates a text to `max_length` tokens of median length, to avoid tokenizing the rest.
        """
        return None if self._max_length is None else self._max_length * self._median_token_length

    @property
    def unk_token_id(self) -> int | None:
        """Id of the unknown token, which is excluded from every mean; None if there is none."""
        return self._unk_token_id

    @property
    def special_token_ids(self) -> list[int]:
        """Ids of the tokens that do not represent text: special tokens and the unknown token."""
        added = self.tokenizer.get_added_tokens_decoder()
        special = {token_id for token_id, token in added.items() if token.special}
        return sorted(special if self._unk_token_id is None else special | {self._unk_token_id})

    @property
    def encoder_path(self) -> str:
        """How texts are tokenized: `"chunk by chunk"`, which is many times faster, or `"whole texts, because ..."`."""
        reason = self._engine.plain_path_reason
        return "chunk by chunk" if reason is None else f"whole texts, because {reason}"

    @property
    def n_bytes(self) -> int:
        """Size of the table with its weights and mapping in bytes."""
        parts = (self.token_embeddings, self.weights, self.token_mapping)
        return sum(part.nbytes for part in parts if part is not None)

    def encode(
        self,
        sentences: str | Iterable[str],
        max_length: int | EllipsisType | None = ...,
        batch_size: int = 1024,
        show_progress_bar: bool = False,
        *,
        normalize: bool | None = None,
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        prompt: str | None = None,
        prompt_name: str | None = None,
        device: object = None,
        precision: str = "float32",
        output_value: str = "sentence_embedding",
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
    ) -> NDArray[np.float32]:
        """Compute one embedding per text: the mean of its tokens' rows.

        Args:
            sentences: One text, or any number of them.
            max_length: Maximum number of tokens per text, unknown tokens included, as in Model2Vec; None for no limit;
                the model's own limit if not passed.
            batch_size: Accepted for compatibility with Model2Vec; texts are processed in blocks of some megabytes.
            show_progress_bar: Show a progress bar on stderr.
            normalize: Overrides the model's setting for this call.
            convert_to_numpy: Accepted, like all following arguments, for callers that treat every encoder like a
                Sentence Transformer; False only with `convert_to_tensor`.
            convert_to_tensor: Return a torch tensor.
            normalize_embeddings: True for unit length; False keeps the model's setting.
            prompt: Inserted before each text instead of the model's prompts; "" for none.
            prompt_name: The model's prompt to insert before each text; None for `default_prompt_name`. Ignored by
                models without prompts.
            device: Device of the returned tensor. Embeddings are always computed on the CPU.
            precision: Only `"float32"`.
            output_value: Only `"sentence_embedding"`.
            use_multiprocessing: Accepted for compatibility with Model2Vec; tokenization always uses every core.
            multiprocessing_threshold: As `use_multiprocessing`.

        Returns:
            (n_sentences, dim) float32, or (dim,) for one text. Unit rows if normalizing; zeros for texts without
            known tokens.

        Raises:
            InputError: Not a text or a container of texts, or an argument out of range.
            ModelFormatError: The mapped file of the table was truncated.
            MissingExtraError: `convert_to_tensor` without torch.
        """
        if not (convert_to_numpy or convert_to_tensor):
            raise InputError("encode returns one array; drop convert_to_numpy=False, or pass convert_to_tensor=True.")
        if precision != "float32":
            raise InputError(
                f"precision is {precision!r}, but encode returns float32. Convert the array, or write a file with "
                "m2v encode --dtype int8."
            )
        if output_value != "sentence_embedding":
            raise InputError(
                f"output_value is {output_value!r}, but encode returns sentence embeddings. Use encode_as_sequence for "
                "one embedding per token."
            )
        limit = self._max_length if isinstance(max_length, EllipsisType) else checked_max_length(max_length)
        texts = checked_texts(sentences)
        if prompt is None:
            prompt = self._prompt(prompt_name or self.default_prompt_name)
        if prompt:
            texts = [prompt + text for text in texts]
        checked_batch_size(batch_size)
        check_mapped(self.token_embeddings)
        if normalize is None:
            normalize = self._normalize or normalize_embeddings
        with progress_bar(len(texts), show_progress_bar) as advance:
            embeddings = self._engine.embeddings(texts, limit, normalize, advance)
        found = embeddings[0] if isinstance(sentences, str) else embeddings
        return as_tensor(found, device) if convert_to_tensor else found

    def encode_query(self, sentences: str | Iterable[str], **options: Any) -> NDArray[np.float32]:
        """Like `encode`, by default with the prompt `"query"` if the model has prompts."""
        return self.encode(sentences, **self._with_prompt_name(options, "query"))

    def encode_document(self, sentences: str | Iterable[str], **options: Any) -> NDArray[np.float32]:
        """Like `encode`, by default with the prompt `"document"` if the model has prompts."""
        return self.encode(sentences, **self._with_prompt_name(options, "document"))

    def _with_prompt_name(self, options: dict[str, Any], name: str) -> dict[str, Any]:
        is_named = options.get("prompt") is not None or options.get("prompt_name") is not None
        return options if is_named or name not in self.prompts else options | {"prompt_name": name}

    def _prompt(self, name: str | None) -> str:
        """Return the prompt with this name; "" for None, and in models without prompts.

        Raises:
            InputError: The model has prompts, but none of this name.
        """
        if name is None or not self.prompts:
            return ""
        if name not in self.prompts:
            raise InputError(f"The model has no prompt {name!r}; it has {', '.join(self.prompts)}.")
        return self.prompts[name]

    def get_embedding_dimension(self) -> int:
        """Same as `dim`; the name in Sentence Transformers."""
        return self.dim

    get_sentence_embedding_dimension = get_embedding_dimension

    def encode_stream(
        self,
        sentences: Iterable[str],
        max_length: int | EllipsisType | None = ...,
        *,
        normalize: bool | None = None,
        block_size: int = 16_384,
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the embeddings of any number of texts in blocks, in constant memory.

        Args:
            sentences: Any iterable of texts: a generator, a list, an open text file (line ends are removed). It is
                read only as far as needed for the next block.
            max_length: As in `encode`.
            normalize: As in `encode`.
            block_size: Number of texts per block; fewer in the last one, and if texts are long.

        Yields:
            (n, dim) float32 with 1 <= n <= `block_size`, rows as returned by `encode`, in the order of the texts.

        Raises:
            InputError: Not an iterable of texts, or an argument out of range.
        """
        limit = self._max_length if isinstance(max_length, EllipsisType) else checked_max_length(max_length)
        blocks = blocks_of_texts(sentences, block_size)
        return (self.encode(block, max_length=limit, normalize=normalize) for block in blocks)

    def encode_as_sequence(
        self,
        sentences: str | Iterable[str],
        max_length: int | None = None,
        batch_size: int = 1024,
        show_progress_bar: bool = False,
        *,
        use_multiprocessing: bool = True,
        multiprocessing_threshold: int = 10_000,
    ) -> NDArray[np.float32] | list[NDArray[np.float32]]:
        """Return one embedding per known token, in the order of the text.

        Args:
            sentences: One text, or any number of them.
            max_length: Maximum number of tokens per text; None for no limit. As in Model2Vec, the model's own limit
                does not apply.
            batch_size: As in `encode`.
            show_progress_bar: Show a progress bar on stderr.
            use_multiprocessing: As in `encode`.
            multiprocessing_threshold: As in `encode`.

        Returns:
            A list of (n_tokens, dim) float32, or one such array for one text; not normalized. (0, dim) for texts
            without known tokens.

        Raises:
            InputError: Not a text or a container of texts, or an argument out of range.
            ModelFormatError: The mapped file of the table was truncated.
        """
        limit = checked_max_length(max_length)
        texts = checked_texts(sentences)
        checked_batch_size(batch_size)
        check_mapped(self.token_embeddings)
        with progress_bar(len(texts), show_progress_bar) as advance:
            sequences = self._engine.sequences(texts, limit, advance)
        return sequences[0] if isinstance(sentences, str) else sequences

    def tokenize(self, sentences: str | Iterable[str], max_length: int | None = None) -> list[list[int]]:
        """Return the ids of each text's known tokens.

        Args:
            sentences: One text, or any number of them.
            max_length: Maximum number of tokens per text, before unknown ones are dropped; None for no limit.

        Raises:
            InputError: Not a text or a container of texts, or `max_length` out of range.
        """
        return self._engine.token_ids(checked_texts(sentences), checked_max_length(max_length))

    def coverage(self, sentences: str | Iterable[str]) -> Coverage:
        """Measure how well the vocabulary covers the first 200 texts: embeddings of other languages are noise.

        Args:
            sentences: One text, or any number of them.

        Raises:
            InputError: Not a text or a container of texts.
        """
        texts = well_formed(checked_texts(sentences))
        return self._coverage_meter.measure(texts)

    @cached_property
    def _coverage_meter(self) -> CoverageMeter:
        return CoverageMeter(self.tokenizer, self._tokens, self._unk_token_id)

    @staticmethod
    def similarity(a: ArrayLike, b: ArrayLike) -> NDArray[np.float32]:
        """Compute the cosine of each embedding in `a` with each one in `b`.

        Args:
            a: (n, dim) or (dim,).
            b: (m, dim) or (dim,).

        Returns:
            (n, m) float32 in [-1, 1]; 0 where either row is zero.

        Raises:
            InputError: The widths differ.
        """
        return cosines(a, b)

    def stored(self) -> StoredModel:
        """The parts of the model for saving."""
        check_mapped(self.token_embeddings)
        return StoredModel(
            token_embeddings=self.token_embeddings,
            tokenizer=self.tokenizer,
            weights=self.weights,
            token_mapping=self.token_mapping,
            normalize=self.normalize,
            max_length=self.max_length,
            config=self.config,
            base_model_name=self.base_model_name,
            language=self.language,
            prompts=self.prompts,
            default_prompt_name=self.default_prompt_name,
        )


def _without_idle(weights: NDArray[np.float32] | None, tokenizer: Tokenizer) -> NDArray[np.float32] | None:
    """Return None for weights that are all 1 except for the unknown token's, which is in no mean.

    Models with shared rows are saved with such weights, and earlier versions saved them with every float16 model.
    """
    if weights is None or weights.shape != (tokenizer.get_vocab_size(with_added_tokens=True),):
        return weights
    return weights if set(np.flatnonzero(weights != 1.0)) - {unknown_token_id(tokenizer)} else None
