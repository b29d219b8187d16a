"""`m2v app` with a stub; `tests/packaging/test_installed_app.py` runs the real app."""

from __future__ import annotations

import sys

from m2v_core.cli import starting
from m2v_core.studio.space import settings
from tests.core.cli.commands import assert_one_error_line, m2v


def test_app_runs_in_the_folder_of_its_pages(monkeypatch, tmp_path):
    (tmp_path / "neighbour.py").write_text("GREETING = 'hello'\n", encoding="utf-8")
    script = "if __name__ == '__main__':\n    from neighbour import GREETING\n    print(GREETING)\n"
    (tmp_path / "app.py").write_text(script, encoding="utf-8")
    monkeypatch.setattr(settings, "APP_FOLDER", tmp_path)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    done = m2v("app")
    assert (done.exit_code, done.stdout) == (0, "hello\n")


def test_app_without_gradio_names_the_remedy(monkeypatch):
    monkeypatch.setattr(starting, "find_spec", lambda name: None)
    assert_one_error_line(m2v("app"), "pip install 'm2v-studio[app]'")
