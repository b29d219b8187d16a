"""Does fidelity predict quality? Fidelity of many static models and their scores on human judgments of similarity.

Each teacher is distilled with four recipes, 256, 128, 64 and 32 dimensions wide, and once in int8. The table shows the
mean score on STS sets (100 x Spearman's rho) and three candidates for a label-free figure, all measured on the same
2,000 sentences: rank correlation over random pairs, over stratified pairs (what the library reports as fidelity), and
the overlap of the 10 nearest neighbors. Below it is the rank correlation of each candidate with the STS scores.

    python benchmarks/fidelity.py                                  the bundled teacher
    python benchmarks/fidelity.py --teacher FOLDER --teacher OTHER --cache FOLDER
"""

import argparse
import itertools
import json
import sys
from pathlib import Path

import numpy as np
from quality import DATA, Recipe
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from m2v_core import distill
from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.evaluation.data import read_tasks
from m2v_core.evaluation.fidelity import N_TEXTS, compare_embeddings
from m2v_core.evaluation.run import evaluate
from m2v_core.evaluation.tasks import pair_cosines

RESULT = Path(__file__).parent / "results" / "fidelity.json"
RECIPES: dict[str, dict] = {
    "model2vec": {"recipe": "model2vec"},
    "fast": {"recipe": "fast"},
    "without dictionary": {"recipe": "calibrated", "dictionary": "none"},
    "calibrated": {"recipe": "calibrated"},
}
SIZES = [(256, "float16"), (128, "float16"), (64, "float16"), (32, "float16"), (256, "int8")]
FIGURES = ("random pairs", "stratified", "neighbors")
N_RANDOM_PAIRS = 10_000


def sentences() -> list[str]:
    """2,000 sentences of the corpus, none of which belongs to a test set."""
    lines = dict.fromkeys((DATA / "corpus" / "sentences.txt").read_text("utf-8").splitlines())
    drawn = np.random.default_rng(0).choice(len(lines), N_TEXTS, replace=False)
    return [list(lines)[place] for place in sorted(drawn)]


def figures_of(teacher: np.ndarray, static: np.ndarray) -> dict[str, float]:
    """The three candidates for a label-free figure."""
    places = np.random.default_rng(0).integers(len(teacher), size=(2, 2 * N_RANDOM_PAIRS))
    left, right = places[:, places[0] != places[1]][:, :N_RANDOM_PAIRS]
    random = spearmanr(*(pair_cosines(embeddings, left, right) for embeddings in (teacher, static))).statistic
    found = compare_embeddings(teacher, static, resamples=0)
    return dict(zip(FIGURES, (float(random), found.correlation.value, found.overlap.value), strict=True))


def main() -> None:
    if not DATA.is_dir():
        sys.exit(f"The evaluation data is not in {DATA}; nothing was measured.")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", action="append", help="a folder; repeat it for several teachers")
    parser.add_argument("--cache", help="folder for teacher outputs")
    asked = parser.parse_args()
    tasks, texts, rows = read_tasks(DATA, ["sts"]), sentences(), []
    print(f"{'teacher':<20}{'recipe':<20}{'dims':>5}{'':>9}{'sts':>8}" + "".join(f"{name:>14}" for name in FIGURES))
    for teacher in asked.teacher or [str(bundled_folder())]:
        judged = SentenceTransformer(teacher, device="cpu").encode(texts)
        for recipe, (dims, precision) in itertools.product(RECIPES, SIZES):
            settings = RECIPES[recipe]
            model = distill(
                teacher, device="cpu", pca_dims=dims, quantize_to=precision, cache_folder=asked.cache, **settings
            )
            scores = evaluate([Recipe("model", model.encode)], tasks, resamples=0).scores
            row = {"teacher": Path(teacher).name, "recipe": recipe, "dims": dims, "precision": precision}
            row |= {"sts": float(np.mean([score.score for score in scores]))}
            row |= figures_of(judged, model.encode(texts))
            rows.append(row)
            print(
                f"{row['teacher'][:19]:<20}{recipe:<20}{dims:>5}{precision:>9}{row['sts']:8.2f}"
                + "".join(f"{row[name]:14.3f}" for name in FIGURES),
                flush=True,
            )
    agreement = {}
    for group in dict.fromkeys(["all", *(row["teacher"] for row in rows)]):
        of = [row for row in rows if group in ("all", row["teacher"])]
        agreement[group] = {
            name: float(spearmanr([row["sts"] for row in of], [row[name] for row in of]).statistic) for name in FIGURES
        }
        agreed = "".join(f"{agreement[group][name]:14.3f}" for name in FIGURES)
        print(f"{'rank correlation with sts: ' + group[:19] + f', {len(of)} models':<62}{agreed}")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"models": rows, "agreement": agreement}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
