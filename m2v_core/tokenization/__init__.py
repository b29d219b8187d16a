"""Tokenizers of static models, trimmed from the teacher's tokenizer, with added words or with passed words only.

Edits are made on the tokenizer's JSON form and validated afterwards: ids are contiguous, each id has one row, the
unknown id is that of the unknown token, each kept piece is matched where the teacher matches it, and each passed word
is one token when it stands alone and never part of another word.

Source: the three modes are those of https://github.com/MinishLab/model2vec; the JSON form is that of
https://github.com/huggingface/tokenizers.
"""

from m2v_core.tokenization.building import EntryRows, StaticVocabulary, build_static_vocabulary
from m2v_core.tokenization.ids import check_tokenizer, unknown_token_id
from m2v_core.tokenization.spec import FAMILIES

__all__ = [
    "FAMILIES",
    "EntryRows",
    "StaticVocabulary",
    "build_static_vocabulary",
    "check_tokenizer",
    "unknown_token_id",
]
