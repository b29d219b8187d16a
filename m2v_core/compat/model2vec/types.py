"""Types in model2vec's signatures."""

from typing import Any

StaticModelConfig = dict[str, Any]
