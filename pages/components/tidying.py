"""Tidying up behind the app: what it serves, and the Hub's cache."""

from __future__ import annotations

import logging
import threading
import time

from m2v_core.hub.cache import trim_hub_cache
from m2v_core.studio.space.settings import current_limits
from pages.components.served_files import remove_old_files, served_folder

logger = logging.getLogger(__name__)

_SECONDS_BETWEEN_LOOKS = 300.0


def tidy_up() -> None:
    """Keep what is served, and on a Space the Hub's cache, within their limits; never raises."""
    try:
        remove_old_files(served_folder())
        most_bytes = current_limits().hub_cache_bytes
        if most_bytes is not None:
            trim_hub_cache(most_bytes)
    except Exception:  # the last frame of ours: another time it may work
        logger.exception("Nothing could be tidied up.")


def keep_tidy() -> None:
    """Tidy up now and then, in a thread that ends with the app."""

    def go_on() -> None:
        while True:
            tidy_up()
            time.sleep(_SECONDS_BETWEEN_LOOKS)

    threading.Thread(target=go_on, name="m2v-tidy", daemon=True).start()
