"""How fast a teacher reads sentences on the CPU, with its own linear layers and with each variant of them.

Every round runs all variants in turn on the same 500 lines of the dictionary; the best round counts. The peak is that
of a product of two square matrices in float32, measured in the same rounds. Seconds are processor seconds, so other
programs on the machine matter little; one thread is used.

    python benchmarks/reading.py                     the bundled teacher
    python benchmarks/reading.py --teacher FOLDER
    ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 python benchmarks/reading.py
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from m2v_core.distillation.calibration.dictionary import dictionary_lines
from m2v_core.distillation.teacher.bundled import bundled_folder
from m2v_core.distillation.teacher.forward import _VARIANTS, _batches, _forward, _prepared, _with_linears
from m2v_core.distillation.teacher.source import locate_teacher
from m2v_core.distillation.teacher.teacher import Teacher

RESULT = Path(__file__).parent / "results" / "reading.json"
N_LINES, ROUNDS, BATCH_TOKENS, PEAK_SIZE = 500, 5, 1536, 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=str(bundled_folder()))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    teacher = Teacher.load(locate_teacher(asked.teacher), "cpu")
    teacher.tokenizer.no_padding()
    sequences = [encoding.ids for encoding in teacher.tokenizer.encode_batch(dictionary_lines()[:N_LINES])]
    n_tokens = sum(map(len, sequences))
    square = torch.randn(PEAK_SIZE, PEAK_SIZE)
    record: dict = {
        "teacher": Path(asked.teacher).name,
        "tokens": n_tokens,
        "capability": torch.backends.cpu.get_cpu_capability(),
    }
    with _prepared(teacher.model, "cpu") as model:
        n_products = sum(layer.weight.numel() for layer in model.encoder.modules() if type(layer) is torch.nn.Linear)
        models = {"own": model} | {name: _with_linears(model, layer) for name, layer in _VARIANTS.items()}
        best = dict.fromkeys([*models, "peak"], float("inf"))
        vectors: dict[str, np.ndarray] = {}
        for _ in range(ROUNDS):
            for name, variant in models.items():
                found = np.empty((len(sequences), model.config.hidden_size), np.float32)
                started = time.process_time()
                for indices in _batches(sequences, BATCH_TOKENS):
                    batch = [sequences[i] for i in indices]
                    found[indices], _ = _forward(variant, batch, lambda output, _: output.last_hidden_state.mean(dim=1))
                best[name] = min(best[name], time.process_time() - started)
                vectors[name] = found - found.mean(axis=0)
            started = time.process_time()
            for _ in range(10):
                torch.mm(square, square)
            best["peak"] = min(best["peak"], (time.process_time() - started) / 10)
    peak = 2 * PEAK_SIZE**3 / best.pop("peak")  # operations per second
    lengths = {name: np.linalg.norm(found, axis=1) for name, found in vectors.items()}
    print(
        f"{record['teacher']}, {n_tokens:,} tokens, {record['capability']}, peak {peak / 1e9:.0f} billion operations/s"
    )
    for name, seconds in best.items():
        cosines = (vectors["own"] * vectors[name]).sum(axis=1) / (lengths["own"] * lengths[name])
        share = 2 * n_products * n_tokens / seconds / peak
        record[name] = {"tokens_per_second": n_tokens / seconds, "least_cosine": float(cosines.min()), "of_peak": share}
        print(
            f"{name:<14}{n_tokens / seconds:9,.0f} tokens/s{best['own'] / seconds:7.2f} times"
            f"{share:7.0%} of the peak   least cosine {cosines.min():.5f}"
        )
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
