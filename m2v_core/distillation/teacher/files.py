"""Configuration files of a teacher, from a folder or the Hub, parsed as untrusted input."""

from __future__ import annotations

import functools
import json
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import Tokenizer

from m2v_core.distillation.teacher.modules import SentenceModules
from m2v_core.distillation.teacher.source import SLOW_TOKENIZER_FILES
from m2v_core.errors import InputError, TeacherError, first_line
from m2v_core.hub import info
from m2v_core.storage.front_matter import FrontMatter, as_list
from m2v_core.storage.teacher_code import parse_modules

Access = Literal["public", "gated", "private", "folder", "bundled"]

_TOKENIZER_PARTS = (*SLOW_TOKENIZER_FILES, "merges.txt", "added_tokens.json")
_MODULE_CONFIGS = ("config.json", "cnn_config.json", "lstm_config.json")
_ROOT_FILES = (
    "config.json",
    "modules.json",
    "config_sentence_transformers.json",
    "sentence_bert_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "README.md",
)
_FILES = (*_ROOT_FILES, *_TOKENIZER_PARTS, *_MODULE_CONFIGS[1:])
_MAX_BYTES = 64 << 20


@dataclass(frozen=True)
class TeacherFiles:
    """A teacher's file list and configuration files.

    Attributes:
        name: Requested name of the teacher.
        access: Visibility on the Hub, or the local location.
        commit: Commit on the Hub; None for a local teacher.
        license: License in its card; None if missing.
        languages: Languages in its card, usually ISO codes.
        sizes: Bytes of each file, by path.
        n_parameters: Number of parameters in its safetensors files; None if unknown.
        contents: Contents of the configuration files, by path; None for a gated repository without access.
    """

    name: str
    access: Access
    commit: str | None
    license: str | None
    languages: tuple[str, ...]
    sizes: Mapping[str, int]
    n_parameters: int | None
    contents: Mapping[str, bytes] | None

    @functools.cached_property
    def modules(self) -> list[dict[str, str]]:
        """Type and path of each module; empty for a bare transformer.

        Raises:
            TeacherError: modules.json is damaged.
        """
        content = (self.contents or {}).get("modules.json")
        return [] if content is None else parse_modules(content, self.name)

    @property
    def encoder_path(self) -> str:
        """Folder of the transformer within a Sentence Transformer; empty for its root."""
        return _encoder_path(self.contents or {})

    @functools.cached_property
    def sentence_modules(self) -> SentenceModules:
        """The modules after the transformer.

        Raises:
            TeacherError: modules.json is damaged.
        """
        hidden_dim = number(self.json("config.json"), "hidden_size", "d_model", "dim", "n_embd")
        return SentenceModules.of(self.modules, self._module_config, hidden_dim)

    def _module_config(self, path: str) -> Mapping[str, Any]:
        found = ((self.contents or {}).get(f"{path}/{name}") for name in _MODULE_CONFIGS)
        return _json_object(next((content for content in found if content is not None), b""))

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts that the teacher was trained with, by name."""
        prompts = self.json("config_sentence_transformers.json").get("prompts")
        found = prompts.items() if isinstance(prompts, dict) else ()
        return {name: text for name, text in found if isinstance(text, str)}

    @property
    def default_prompt_name(self) -> str | None:
        """Name of the default prompt; None if there is none."""
        name = self.json("config_sentence_transformers.json").get("default_prompt_name")
        return name if isinstance(name, str) and name in self.prompts else None

    def prompt(self, name: str | None) -> str:
        """Return the text of a prompt.

        Args:
            name: One of `prompts`; None for the default prompt, or an empty string without one.

        Raises:
            InputError: The teacher has no prompt of that name.
        """
        return find_prompt(self.name, self.prompts, name or self.default_prompt_name)

    @property
    def tokenizer_path(self) -> str:
        """Folder of the tokenizer: the transformer's folder, or an empty string for the root."""
        found = (f"{self.encoder_path}/{name}" in self.sizes for name in ("tokenizer.json", *SLOW_TOKENIZER_FILES))
        return self.encoder_path if any(found) else ""

    def has(self, name: str) -> bool:
        """Whether the file exists in the transformer's folder or the root."""
        return name in self.sizes or f"{self.encoder_path}/{name}" in self.sizes

    def read(self, name: str) -> bytes:
        """Return a file from the transformer's folder, or else from the root; empty if it is missing."""
        contents = self.contents or {}
        return contents.get(f"{self.encoder_path}/{name}", contents.get(name, b""))

    def json(self, name: str) -> Mapping[str, Any]:
        """Return the JSON object in a file; empty if it is missing or invalid."""
        return _json_object(self.read(name))

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer; without a tokenizer.json it is converted, which requires transformers.

        Raises:
            TeacherError: The tokenizer can't be loaded or converted.
            MissingExtraError: transformers is not installed.
        """
        return self._tokenizer_and_pad_token[0]

    @property
    def pad_token(self) -> str | None:
        """The padding token; None if there is none.

        Raises:
            TeacherError, MissingExtraError: As for `tokenizer`.
        """
        return self._tokenizer_and_pad_token[1]

    @functools.cached_property
    def _tokenizer_and_pad_token(self) -> tuple[Tokenizer, str | None]:
        if self.has("tokenizer.json"):
            try:
                tokenizer = Tokenizer.from_str(self.read("tokenizer.json").decode("utf-8"))
            # The bindings raise a bare Exception for invalid files.
            except Exception as error:
                if type(error) is not Exception and not isinstance(error, UnicodeDecodeError):
                    raise
                raise TeacherError(
                    f"tokenizer.json of {self.name} is invalid ({first_line(error)}). Download the teacher again, or "
                    "choose another."
                ) from error
            stated = (self.json(name).get("pad_token") for name in ("tokenizer_config.json", "special_tokens_map.json"))
            return tokenizer, next((text for token in stated if (text := text_of(token))), None)
        from m2v_core.distillation.teacher.loading import load_tokenizer

        small = ("config.json", "tokenizer_config.json", "special_tokens_map.json", *_TOKENIZER_PARTS)
        with tempfile.TemporaryDirectory(prefix="m2v-tokenizer-") as folder:
            for name in small:
                if content := self.read(name):
                    (Path(folder) / name).write_bytes(content)
            converted = load_tokenizer(Path(folder), self.name, trust_remote_code=False)
        return converted.backend_tokenizer, converted.pad_token


def files_of_repo(name: str, token: str | None, endpoint: str | None) -> TeacherFiles:
    """Fetch the file list and configuration files of a repository.

    Raises:
        NotFoundError: The repository does not exist.
        HubError: The Hub can't be reached, or rejected the request.
    """
    found = info.repo_facts(name, token=token, endpoint=endpoint)
    contents = info.read_files(found, _ROOT_FILES, token=token, endpoint=endpoint)
    if contents is not None:
        encoder_path = _encoder_path(contents)
        folders = dict.fromkeys(["", f"{encoder_path}/" if encoder_path else ""])
        wanted = [f"{folder}{file}" for folder in folders for file in _ROOT_FILES]
        if not {f"{folder}tokenizer.json" for folder in folders} & found.sizes.keys():
            wanted += [f"{folder}{file}" for folder in folders for file in _TOKENIZER_PARTS]
        wanted += [f"{path}/{file}" for path in _module_paths(contents) for file in _MODULE_CONFIGS]
        nested = [path for path in dict.fromkeys(wanted) if path not in contents]
        contents |= info.read_files(found, nested, token=token, endpoint=endpoint) or {}
    return TeacherFiles(
        name,
        found.access,
        found.commit,
        found.license,
        found.languages,
        found.sizes,
        found.n_parameters,
        contents,
    )


def files_of_folder(name: str, folder: Path, access: Access) -> TeacherFiles:
    """Read the configuration files of a folder, only two levels deep because it may be as large as a home folder."""
    found = (path for pattern in ("*", "*/*") for path in folder.glob(pattern) if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in found}
    wanted = [path for path in sizes if path.rpartition("/")[2] in _FILES and sizes[path] <= _MAX_BYTES]
    contents = {path: (folder / path).read_bytes() for path in wanted}
    metadata = FrontMatter.of(folder / "README.md").fields()
    license_name = metadata.get("license")
    weights = [folder / path for path in sizes if path.endswith(".safetensors")]
    return TeacherFiles(
        name=name,
        access=access,
        commit=None,
        license=license_name if isinstance(license_name, str) else None,
        languages=tuple(as_list(metadata.get("language"))),
        sizes=sizes,
        n_parameters=sum(map(_parameters_in, weights)) or None,
        contents=contents,
    )


def _encoder_path(contents: Mapping[str, bytes]) -> str:
    """Folder of the transformer within a Sentence Transformer; empty for its root."""
    return next(iter(_module_paths(contents, ".Transformer")), "").strip("/.")


def _module_paths(contents: Mapping[str, bytes], of_type: str = "") -> list[str]:
    """Folders of the modules whose type ends with `of_type`; empty if modules.json is missing or damaged."""
    try:
        modules = parse_modules(contents.get("modules.json", b"[]"), "")
    except TeacherError:
        return []
    return [module["path"] for module in modules if module["type"].endswith(of_type)]


def _json_object(content: bytes) -> Mapping[str, Any]:
    """Parse a JSON object; empty if it is invalid."""
    try:
        value = json.loads(content)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def find_prompt(teacher: str, prompts: Mapping[str, str], name: str | None) -> str:
    """Return the text of one of a teacher's prompts; empty for None.

    Raises:
        InputError: The teacher has no prompt of that name.
    """
    if name is None:
        return ""
    if name not in prompts:
        known = ", ".join(map(repr, prompts))
        what = f"its prompts are {known}" if known else "it has none"
        raise InputError(f"prompt_name is {name!r}, which is not a prompt of {teacher}: {what}.")
    return prompts[name]


def number(values: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these values between 0 and 10**12 (larger values mean no limit); None if there is none."""
    for name in names:
        value = values.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 10**12:
            return int(value)
    return None


def text_of(value: object) -> str | None:
    """Return the text of a token in a configuration file: a string, or an object with a `content` key."""
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _parameters_in(path: Path) -> int:
    """Count the parameters in a safetensors file from its header; 0 if it is damaged.

    Source: the header is an 8-byte length, then JSON: https://github.com/huggingface/safetensors#format
    """
    try:
        with path.open("rb") as file:
            n_bytes = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(n_bytes, 100 << 20)))
        return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0
