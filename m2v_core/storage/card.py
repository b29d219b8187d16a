"""The model card: front matter for the Hub, and how to use the model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from m2v_core.storage.formats import MODEL2VEC, SENTENCE_TRANSFORMERS, Form
from m2v_core.storage.front_matter import as_list

# Licenses that the Hub accepts; others are "other" with a name.
# Source: https://huggingface.co/docs/hub/repositories-licenses
HUB_LICENSES = frozenset(
    """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    openrail++ afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
    cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0
    cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl
    gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr isc h-research intel-research lppl-1.3c ms-pl apple-ascl
    apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
    deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4
    grok2-community gemma unknown other
    """.split()  # noqa: SIM905 - sixty lines otherwise
)

# Source: https://www.loc.gov/standards/iso639-2/php/code_list.php, those of two letters
_ISO_639_1 = frozenset(
    """
    aa ab ae af ak am an ar as av ay az ba be bg bh bi bm bn bo br bs ca ce ch co cr cs cu cv cy da de dv dz ee el en eo
    es et eu fa ff fi fj fo fr fy ga gd gl gn gu gv ha he hi ho hr ht hu hy hz ia id ie ig ii ik io is it iu ja jv ka kg
    ki kj kk kl km kn ko kr ks ku kv kw ky la lb lg li ln lo lt lu lv mg mh mi mk ml mn mr ms mt my na nb nd ne ng nl nn
    no nr nv ny oc oj om or os pa pi pl ps pt qu rm rn ro ru rw sa sc sd se sg sh si sk sl sm sn so sq sr ss st su sv sw
    ta te tg th ti tk tl tn to tr ts tt tw ty ug uk ur uz ve vi vo wa wo xh yi yo za zh zu
    """.split()  # noqa: SIM905 - two hundred lines otherwise
)
_FORMER_LANGUAGES = {"iw": "he", "in": "id", "ji": "yi", "jw": "jv", "mo": "ro", "mul": "multilingual"}
_NO_LANGUAGES = re.compile("mis|und|zxx|q[a-t][a-z]")  # ISO 639-3: uncoded, undetermined, none, local use
_HUB_ID = re.compile(r"[a-z0-9][\w.-]*/[a-z0-9][\w.-]*", re.ASCII | re.IGNORECASE)

_LABELS_SHOWN = 20
_MAX_LICENSE_CHARS = 96
TAGS = ("embeddings", "static-embeddings", "sentence-transformers", "m2v-studio")

_BODY = """\
# {name}

A static embedding model: every token has one row in a table, and the embedding of a text is the mean of its
tokens' rows. There is no neural network to run, so it is fast on any CPU.

{facts}
{recipe}{classify}
## Usage

With M2V Studio:

```python
from m2v_core import StaticModel

model = StaticModel.from_pretrained("{name}")
embeddings = model.encode(["A first sentence.", "A second one."])
```

With model2vec {model2vec} or later:

```python
from model2vec import StaticModel

model = StaticModel.from_pretrained("{name}")
embeddings = model.encode(["A first sentence.", "A second one."])
```

With Sentence Transformers {sentence_transformers} or later:

```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{name}"){conversion}
embeddings = model.encode(["A first sentence.", "A second one."])
```
"""


_CONVERSION = ".float()  # in float16, texts without known tokens would give NaN"

_CLASSIFY = """
## Classification

A classification head on top of the model predicts labels; the sections below return only embeddings.

```python
from m2v_core.classification import StaticClassifier

classifier = StaticClassifier.from_pretrained("{name}")
labels = classifier.predict(["A first sentence.", "A second one."])
```

With model2vec:

```python
from model2vec.inference import StaticModelPipeline

classifier = StaticModelPipeline.from_pretrained("{name}")
labels = classifier.predict(["A first sentence.", "A second one."])
```
"""


@dataclass(frozen=True)
class Classifier:
    """Labels and accuracy of a classification head.

    Attributes:
        labels: The labels, as text.
        is_multi_label: Whether a text can have any number of labels instead of exactly one.
        accuracy: Share of held-out texts with exactly the right labels, 0 to 1; None if unknown.
        n_held_out: Number of held-out texts; 0 if unknown.
        is_fine_tuned: Whether the table was trained with the head.
    """

    labels: tuple[str, ...]
    is_multi_label: bool = False
    accuracy: float | None = None
    n_held_out: int = 0
    is_fine_tuned: bool = False

    def lines(self) -> list[str]:
        """One line per fact."""
        shown = ", ".join(f"`{_one_line(label)}`" for label in self.labels[:_LABELS_SHOWN])
        more = f", and {len(self.labels) - _LABELS_SHOWN:,} more" if len(self.labels) > _LABELS_SHOWN else ""
        kind = "any number per text" if self.is_multi_label else "one per text"
        found = [f"Labels, {kind}: {shown}{more}"]
        if self.is_fine_tuned:
            found.append("The table was fine-tuned with the head")
        if self.accuracy is not None:
            found.append(f"Accuracy: {self.accuracy:.3f} on {self.n_held_out:,} texts held out from training")
        return found


@dataclass(frozen=True)
class Measured:
    """Measurements of a model; None for missing ones.

    Attributes:
        fidelity: Rank correlation with the teacher's similarities, -1 to 1.
        fidelity_on: The data it was measured on: "12,000 pairs of 600 sentences".
        fidelity_interval: Bounds of its 95% confidence interval.
        sentences_per_second: Encoding speed, including tokenization.
        hardware: The hardware the speed was measured on: "2 cores of an Intel Xeon".
    """

    fidelity: float | None = None
    fidelity_on: str | None = None
    sentences_per_second: float | None = None
    hardware: str | None = None
    fidelity_interval: tuple[float, float] | None = None

    def lines(self) -> list[str]:
        """One line for fidelity, measured or not, and one for speed if it was measured."""
        found = ["Fidelity: not measured"]
        if self.fidelity is not None:
            on = f", on {self.fidelity_on}" if self.fidelity_on else ""
            within = ""
            if self.fidelity_interval is not None:
                low, high = self.fidelity_interval
                within = f"; 95% confidence interval {low:.3f} to {high:.3f}"
            found = [f"Fidelity: {self.fidelity:.3f} (rank correlation with the teacher's similarities{on}{within})"]
        if self.sentences_per_second is not None:
            on = f" on {self.hardware}" if self.hardware else ""
            found.append(f"Speed: {self.sentences_per_second:,.0f} sentences/s{on}, including tokenization")
        return found


@dataclass(frozen=True)
class Recipe:
    """How a model was distilled, as far as its configuration states.

    Attributes:
        facts: The choices, one line each.
        command: The command that repeats the distillation.
        teacher: The teacher's name on the Hub, or the name of its folder.
    """

    facts: tuple[str, ...]
    command: str
    teacher: str

    @classmethod
    def of(cls, config: Mapping[str, Any], dtype: str, n_shared_rows: int | None) -> Recipe | None:
        """Read the recipe from a model's `config.json`; None for a model that was not distilled with this library.

        Args:
            config: The loaded configuration.
            dtype: Number format of the table.
            n_shared_rows: Number of rows shared by all tokens; None for one row per token.
        """
        settings = config.get("m2v")
        if not isinstance(settings, Mapping) or "recipe" not in settings:
            return None
        teacher = settings.get("teacher", config.get("tokenizer_name"))
        if not isinstance(teacher, str):
            return None
        mode = str(settings.get("mode", "output"))
        weighting = settings.get("weighting") if settings.get("apply_zipf", True) else None
        dims, pattern = config.get("apply_pca"), settings.get("token_remove_pattern")
        options = {"model-name": teacher, "save-path": "my-model", "recipe": settings["recipe"]}
        source = str(settings.get("vocabulary_source", ""))
        if source.startswith("auto"):
            options |= {"vocabulary": source, "vocabulary-size": settings.get("vocabulary_size", 30_000)}
        elif mode != "output":
            options["vocabulary-path"] = "words.txt"
        if settings.get("n_corpus_texts"):
            options["corpus"] = "sentences.txt"
        options |= {"pca-dims": "none" if dims is None else dims, "pooling": config.get("pooling", "mean")}
        if weighting is not None:
            options["weighting"] = weighting
        if weighting == "sif" and config.get("sif_coefficient") is not None:
            options["sif-coefficient"] = config["sif_coefficient"]
        for name in ("prompt_name", "dictionary", "effort"):
            if settings.get(name):
                options[name.replace("_", "-")] = settings[name]
        options |= {"token-remove-pattern": pattern or "", "quantize-to": dtype}
        if n_shared_rows is not None:
            options["vocabulary-quantization"] = n_shared_rows
        flags = ["--no-use-subword"] if mode == "vocabulary (word)" else []
        flags += ["--no-apply-zipf"] if weighting is None else []
        command = [f"--{name} {shlex.quote(str(value))}" for name, value in options.items()]
        facts = [f"Recipe: {settings['recipe']}, mode: {mode}, weighting: {weighting or 'none'}"]
        if settings.get("n_entries"):
            what = settings.get("vocabulary_summary") or ("with counts" if source == "counts" else "")
            entries = f"{settings['n_entries']:,} entries, {settings['n_entry_rows']:,} rows"
            facts.append(f"Vocabulary: {'; '.join(filter(None, [_one_line(what), entries]))}")
        if settings.get("n_dictionary_lines"):
            facts.append(f"Fitted to {settings['n_dictionary_lines']:,} definitions and examples of WordNet 3.1")
        if settings.get("prompt"):
            facts.append(f"The teacher read `{_one_line(settings['prompt'])}` before each sentence")
        if settings.get("modules_not_applied"):
            facts.append(f"Modules of the teacher that are not applied: {', '.join(settings['modules_not_applied'])}")
        if settings.get("teacher_revision"):
            facts.append(f"Teacher's commit: `{settings['teacher_revision']}`")
        if settings.get("version"):
            facts.append(f"Made with M2V Studio {settings['version']}")
        return cls(tuple(facts), " \\\n  ".join(["m2v distill", *command, *flags]), teacher)


def model_card(
    *,
    model_name: str,
    dim: int,
    n_tokens: int,
    form: Form,
    base_model_name: str | None = None,
    language: list[str] | None = None,
    license: str | None = None,
    n_bytes: int | None = None,
    recipe: Recipe | None = None,
    measured: Measured | None = None,
    classifier: Classifier | None = None,
    default_prompt: str | None = None,
) -> str:
    """Build the text of README.md.

    Args:
        model_name: Repository or folder, as users would load it.
        dim: Width of the embeddings.
        n_tokens: Size of the vocabulary.
        form: Determines which releases of other libraries can load the model.
        base_model_name: The teacher's name on the Hub; other names only appear in the text, without a path.
        language: ISO 639 codes or BCP 47 tags; others are omitted.
        license: SPDX id; omitted if None, because only the owner can choose a license.
        n_bytes: Size of the tensors; omitted if None.
        recipe: How the model was distilled; omitted if None.
        measured: Measurements of the model; missing ones are omitted.
        classifier: The classification head; None without one.
        default_prompt: The prompt inserted before each text by default; None without one.
    """
    from huggingface_hub import ModelCard, ModelCardData  # slow to import, and not needed to load a model

    data = ModelCardData(
        base_model=hub_id(base_model_name),
        language=normalized_languages(language or ()) or None,
        library_name="model2vec",
        **_license_fields(license),
        model_name=model_name,
        tags=[*TAGS, *([] if classifier is None else ["text-classification"])],
    )
    named = base_model_name or (recipe.teacher if recipe is not None else "")
    teacher = hub_id(named) or _one_line(_last_part(named))
    facts = [f"Distilled from `{teacher}`"] if teacher else []
    size = "" if n_bytes is None else f", {n_bytes / 1e6:,.1f} MB"
    facts.append(f"{n_tokens:,} tokens, {dim} dimensions, {form.dtype}{size}")
    if default_prompt is not None:
        facts.append(
            f"Default prompt: `{_one_line(default_prompt)}`; M2V Studio and Sentence Transformers insert it before "
            "each text; model2vec does not"
        )
    commands: list[str] = []
    if recipe is not None:
        facts += recipe.facts
        commands.append(recipe.command)
    facts += [] if measured is None else measured.lines()
    usage = ""
    if classifier is not None:
        facts += classifier.lines()
        usage = _CLASSIFY.format(name=model_name)
        training = "m2v train my-model --data train.tsv --output my-classifier"
        commands.append(f"{training} --finetune" if classifier.is_fine_tuned else training)
    again = "\n".join(["", "To reproduce it:", "", "```bash", *commands, "```", ""]) if commands else ""
    body = _BODY.format(
        name=model_name,
        facts="\n".join(f"- {fact}" for fact in facts),
        recipe=again,
        classify=usage,
        model2vec=form.oldest_release(MODEL2VEC),
        sentence_transformers=form.oldest_release(SENTENCE_TRANSFORMERS),
        conversion=_CONVERSION if form.is_converted else "",
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n{body}"))


def hub_id(name: object) -> str | None:
    """Return the name if it can be the full name of a repository on the Hub, `owner/name`; otherwise None."""
    return name if isinstance(name, str) and _HUB_ID.fullmatch(name) else None


def normalized_languages(languages: Iterable[str]) -> list[str]:
    """Convert languages to the Hub's form: `zh` for `zh-CN`; names and unknown codes are dropped.

    Three-letter codes are assumed to be ISO 639-3; only the Hub checks whether the language exists.
    """
    found: dict[str, None] = {}
    for tag in languages:
        code = re.split("[-_]", tag.strip().lower())[0]
        code = _FORMER_LANGUAGES.get(code, code)
        is_long = re.fullmatch("[a-z]{3}", code) and not _NO_LANGUAGES.fullmatch(code)
        if code in _ISO_639_1 or is_long or code in ("multilingual", "code"):
            found[code] = None
    return list(found)


def _last_part(path: str) -> str:
    """The last component of a path of any system; a plain name is returned unchanged."""
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def _one_line(text: str) -> str:
    return " ".join(text.replace("`", "'").split())


def rename_card(text: str, name: str, license: str | None) -> str:
    """Change the name and license of a model card written by this library; the rest stays unchanged.

    Args:
        text: A card; anything that is not front matter counts as text.
        name: The repository, as users would load it.
        license: SPDX id, or the name of another license; None to keep the card's license.
    """
    metadata, body = _parts(text)
    old = metadata.get("model_name")
    if isinstance(old, str) and old:
        body = body.replace(f"# {old}\n", f"# {name}\n", 1).replace(f'("{old}")', f'("{name}")')
    metadata["model_name"] = name
    _filter_field(metadata, "base_model", lambda names: [one for one in names if hub_id(one)])
    _filter_field(metadata, "language", normalized_languages)
    if license is not None:
        metadata.pop("license_name", None)
        metadata |= _license_fields(license)
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{body}"


def with_thumbnail(text: str, address: str) -> str:
    """Add the image that links to the repository show to a model card that has none.

    Args:
        text: A card.
        address: URL of the image.
    """
    metadata, body = _parts(text)
    front = yaml.safe_dump({"thumbnail": address} | metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n{body}"


def _filter_field(metadata: dict[str, Any], key: str, usable: Callable[[list[str]], list[str]]) -> None:
    """Remove values that the Hub does not accept from a field."""
    if key in metadata:
        stated = as_list(metadata.pop(key))
        if kept := usable(stated):
            metadata[key] = kept if len(kept) > 1 or key == "language" else kept[0]


def stated_license(metadata: Mapping[str, Any]) -> str | None:
    """The license in a card's front matter; None if it is missing or unknown."""
    license = metadata.get("license")
    if license == "other":
        license = metadata.get("license_name")
    return license if isinstance(license, str) and license not in ("", "unknown") else None


def card_body(text: str) -> str:
    """The text of a card without its front matter."""
    return _parts(text)[1]


def _license_fields(license: str | None) -> dict[str, Any]:
    """The front matter for a license, given its SPDX id in any spelling, or another name."""
    words = "-".join((license or "").lower().split())
    if words in HUB_LICENSES:
        return {"license": words}
    # The Hub only accepts lowercase names without spaces.
    name = re.sub(r"[^a-z0-9.]+", "-", words).strip("-.")[:_MAX_LICENSE_CHARS]
    return {"license": "other", "license_name": name} if name else {}


def _parts(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into front matter and body; unreadable front matter is dropped."""
    if not text.startswith("---\n"):
        return {}, f"\n{text}"
    front, end, body = text[4:].partition("\n---")
    try:
        metadata = yaml.safe_load(front) if end else None
    except yaml.YAMLError:
        metadata = None
    body = body.lstrip("-").removeprefix("\n") if end else ""
    return (metadata if isinstance(metadata, dict) else {}), body
