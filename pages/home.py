"""Home: what this is, on one screen, and one button that does it."""

from __future__ import annotations

import gradio as gr

from m2v_core.jobs import JobSpec
from pages.components import checked_teacher, job_store, model_title, teacher_picker
from pages.components.job_panel import build_job_panel


def build() -> None:
    """The page, in the current Blocks context."""
    with gr.Row(elem_classes="m2v-columns m2v-home"):
        gr.HTML(_WELCOME, apply_default_css=False, elem_classes="m2v-hero-cell")
        with gr.Column(scale=5, elem_classes="m2v-side"), gr.Column(elem_classes="m2v-card m2v-run"):
            teacher = teacher_picker()
            panel = build_job_panel("Make my model")
            with panel.result:
                gr.HTML(
                    '<p class="m2v-next">Words of your own, other dimensions or precision? '
                    '<a href="distill">Tune it on the Distill page</a></p>',
                    apply_default_css=False,
                )
        gr.HTML(_STEPS, apply_default_css=False, elem_classes="m2v-steps-cell")
    panel.connect(submit, [teacher])


def submit(owner: str, teacher: str | None) -> str:
    """The id of a new job that distils `teacher` with every setting as it comes.

    Raises:
        M2VError: No teacher, or the queue is full.
    """
    teacher = checked_teacher(teacher)
    return job_store().submit(JobSpec("distill", {"model_name": teacher}, title=model_title(teacher)), owner)


_WELCOME = """
<header class="m2v-hero">
  <h1>Your own small<br>embedding model,<br>in one click</h1>
  <p class="m2v-lead">Pick a Sentence Transformer. The studio has it read every entry of its vocabulary once
  and keeps the answers in a table. Embedding a text is then a look-up and a mean: no GPU, no PyTorch.</p>
</header>
"""
_STEPS = """
<ol class="m2v-steps">
  <li><strong>Pick a teacher</strong><span>The one that is set comes bundled and works offline.</span></li>
  <li><strong>Press the button</strong><span>Close the page if you like: the run goes on.</span></li>
  <li><strong>Take the ZIP</strong><span>It opens in model2vec and in sentence-transformers.</span></li>
</ol>
"""
