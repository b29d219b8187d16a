"""`m2v app`, run as people run it."""

from __future__ import annotations

import sys

from m2v_core.cli import starting
from tests.core.cli.commands import assert_one_error_line, m2v


def test_app_is_refused_outside_a_checkout(monkeypatch, tmp_path):
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    assert_one_error_line(m2v("app"), "make app")


def test_app_runs_the_checkout(monkeypatch, tmp_path):
    (tmp_path / "neighbour.py").write_text("GREETING = 'hello'\n", encoding="utf-8")
    script = "if __name__ == '__main__':\n    from neighbour import GREETING\n    print(GREETING)\n"
    (tmp_path / "app.py").write_text(script, encoding="utf-8")
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    done = m2v("app")
    assert (done.exit_code, done.stdout) == (0, "hello\n")


def test_app_without_gradio_names_the_remedy(monkeypatch, tmp_path):
    (tmp_path / "app.py").touch()
    monkeypatch.setattr(starting, "__file__", str(tmp_path / "m2v_core" / "cli" / "starting.py"))
    monkeypatch.setattr(starting, "find_spec", lambda name: None)
    assert_one_error_line(m2v("app"), "pip install 'm2v-studio[app]'")
