"""The terms of the app and the documentation, one sentence each.

The app shows them as tooltips; `docs/glossary.md` lists them.
"""

from __future__ import annotations

GLOSSARY = {
    "calibration": "Fitting the table to the teacher's embeddings of whole texts.",
    "classifier": "A static model with a head that predicts labels for a text.",
    "corpus": "A file of unlabeled sentences that calibration uses.",
    "coverage": "The share of a text that consists of tokens in the model's vocabulary.",
    "dictionary": "The definitions and example sentences from WordNet that calibration uses for English teachers.",
    "dimension": "One of the numbers of an embedding; more dimensions preserve more meaning and take more memory.",
    "distill": "To create a small model that reproduces the embeddings of a larger one.",
    "effort": "The setting for how many texts calibration uses: quick, balanced or best.",
    "embedding": "A list of numbers that represents the meaning of a text; similar texts have similar embeddings.",
    "fidelity": "How closely a model's ranking of text pairs by similarity matches its teacher's.",
    "frontier": "The smaller versions of a model with the best quality for their size.",
    "Hub": "The Hugging Face Hub, the website where models are published and downloaded.",
    "job": "A task that runs in the background, such as a distillation or an upload.",
    "PCA": "Principal component analysis, which reduces the dimensions while preserving as much variance as possible.",
    "pooling": "The method that combines a teacher's outputs for the tokens of a text into one embedding.",
    "precision": "The number format of the table, such as float16; lower precision makes the model smaller.",
    "prompt": "A short text that is prepended to each text before encoding, such as “query: ”.",
    "recipe": "The method that turns the teacher's outputs into the table.",
    "row": "The vector of one token in the table.",
    "shared rows": "Rows that several tokens share, which makes the model smaller.",
    "SIF": "Smooth inverse frequency, the default weighting, which gives frequent tokens less weight.",
    "static model": "An embedding model that looks up one vector per token and averages them.",
    "subword": "A part of a word that is a token, such as “##ing”.",
    "table": "The vectors of all tokens of a static model, one row per token.",
    "teacher": "The Sentence Transformer that a static model is distilled from.",
    "token": "A word, a part of a word or a symbol that has a vector in the model.",
    "vocabulary": "The list of all tokens of a model, sorted from the most to the least frequent.",
    "weighting": "The rule that sets how much a token counts, based on its rank in the vocabulary.",
    "Zipf": "The weighting of Model2Vec before version 0.4: the logarithm of the rank.",
}
"""One sentence for each term, in alphabetical order."""
