"""The library: the models that people keep, a folder each, found again by their owners alone.

    library = Library("~/m2v/models", jobs=store)
    record = library.add_from_zip("model.zip", owner="ada")
    model = library.load(record.id, owner="ada")

A finished distillation enters by itself, under the id of its job, and stays when the job is cleaned away;
`library.contents(owner)` says which could not.
"""

from m2v_core.studio.library.library import Library
from m2v_core.studio.library.shelf import Contents, ModelRecord, Refusal

__all__ = ["Contents", "Library", "ModelRecord", "Refusal"]
