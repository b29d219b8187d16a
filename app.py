"""M2V Studio in the browser: `python app.py`, then http://127.0.0.1:7860.

`GRADIO_SERVER_NAME` and `GRADIO_SERVER_PORT` set the address, `M2V_STUDIO_HOME` the folder for jobs and models.
`M2V_STUDIO_DEMO=0` disables the demo model.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from pathlib import Path

# Gradio reads this when it is imported.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if "SPACE_ID" in os.environ:
    # Set before huggingface_hub is imported, so that visitors can't act with the owner's token.
    os.environ["HF_HUB_DISABLE_IMPLICIT_TOKEN"] = "1"
    from m2v_core.studio.space.kernels import compile_kernels

    logging.basicConfig(format="%(message)s")
    logging.getLogger(compile_kernels.__module__).setLevel(logging.INFO)
    # Must run before any module imports the kernels.
    compile_kernels(Path(__file__).parent)

import gradio as gr

from m2v_core.studio.space.settings import current_limits
from pages import PAGES, api
from pages.components.model_picker import make_demo
from pages.components.served_files import served_folder, start_cleanup
from pages.components.word_map import stop_maps
from pages.gradio_patches import disable_heartbeat, replace_preview, restrict_tools, start_queue
from pages.theme import FAVICON, STYLE_SHEET, WIDGETS_SCRIPT, studio_theme

_DESCRIPTION = "Distill a Sentence Transformer into a small static embedding model, and publish or download it."


def build_app() -> gr.Blocks:
    """The app with all its pages, not yet launched."""
    # Keep uploads and downloads out of the system's temporary folder, which other users can read.
    os.environ["GRADIO_TEMP_DIR"] = str(served_folder())
    first, *others = PAGES
    app: gr.Blocks = gr.Blocks(title="M2V Studio", analytics_enabled=False)
    with app:
        first.build()
        api.build()
    for page in others:
        with app.route(page.title, page.path):
            page.build()
    return app


def main() -> None:
    """Serve the app until it is interrupted."""
    app = build_app()
    start_cleanup()
    make_demo()
    offers_tools = importlib.util.find_spec("mcp") is not None and restrict_tools(app, api.READ_ONLY)
    disable_heartbeat()
    replace_preview("M2V Studio", _DESCRIPTION)
    start_queue(app, concurrency_limit=16)
    try:
        app.launch(
            theme=studio_theme(),
            # Not `css=`: Gradio rewrites it so that its media queries no longer match.
            head=f"<style>{STYLE_SHEET.read_text(encoding='utf-8')}</style>"
            f"<script>{WIDGETS_SCRIPT.read_text(encoding='utf-8')}</script>",
            favicon_path=FAVICON,
            footer_links=[],
            # Otherwise the browser's run history would contain typed passwords.
            run_history=False,
            max_file_size=current_limits().upload_bytes,
            ssr_mode=False,
            mcp_server=offers_tools,
            # Each open page is a session of 0.6 MB; the least recently used sessions are evicted first.
            state_session_capacity=1000,
            # The monitoring endpoint would expose how often each handler runs.
            enable_monitoring=False,
        )
    finally:
        stop_maps()


if __name__ == "__main__":
    main()
