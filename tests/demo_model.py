"""A demo model that is ready, without a distillation."""

from __future__ import annotations

from pathlib import Path

from m2v_core.studio.library import DemoModel
from tests.static_models import static_model


def place_demo(home: Path, teacher: str = "sentence-transformers/all-MiniLM-L6-v2") -> DemoModel:
    """Put a small demo model into a data folder, where an app with that teacher finds it."""
    demo = DemoModel(home / "demo", teacher)
    static_model("WordPiece", base_model_name=teacher).save_pretrained(home / "saved")
    demo.place(home / "saved")
    return demo
