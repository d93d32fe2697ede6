"""Vectors of genes from texts about them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from pertscale.arguments import checked
from pertscale.embeddings import files
from pertscale.embeddings.embedding import Embedding, chosen_dim
from pertscale.embeddings.signs import fix_signs
from pertscale.errors import ArgumentError, InputError
from pertscale.io.guards.damage import naming_file

if TYPE_CHECKING:
    pass

TEXT_DIM: Final = 100


@checked
def from_texts(
    path: str | os.PathLike[str], *, dim: int | None = None, name: str | None = None
) -> Embedding:
    """Embed genes by the words of their descriptions: TF-IDF, then truncated SVD.

    A plain and reproducible stand-in for GenePT, whose vectors come from a paid language model.

    Parameters
    ----------
    path
        JSON object gene → text. A text without any word in common with another has no vector.
    dim
        Length of the vectors; by default 100, as scikit-learn recommends for this method, or as
        many as fewer texts or words have, which the provenance notes.
    name
        Name of the embedding, by default the file's.

    Raises
    ------
    ArgumentError
        `dim` is not below the number of genes and of words.
    InputError
        The content is not texts, or no word occurs in two of them.

    References
    ----------
    Chen and Zou (2023), GenePT, https://doi.org/10.1101/2023.10.16.562533

    Examples
    --------
    >>> import json
    >>> texts = {
    ...     "GATA1": "erythroid transcription factor",
    ...     "KLF1": "erythroid zinc finger factor",
    ...     "TP53": "tumour suppressor transcription factor",
    ...     "ATM": "tumour suppressor kinase",
    ... }
    >>> with open("summaries.json", "w") as file:
    ...     json.dump(texts, file)
    >>> ps.embeddings.from_texts("summaries.json", dim=2).matrix.shape
    (4, 2)
    """
    path = Path(path)
    content = files.read_json_object(path)
    name = name or path.name.partition(".json")[0]
    return from_text_dict(content, dim=dim, name=name, path=path)


def from_text_dict(
    content: Mapping[str, Any], *, dim: int | None, name: str, path: Path
) -> Embedding:
    """Embed the texts of a file's dictionary; they have to be texts, by gene."""
    # scikit-learn takes a second to import, and other embeddings do without it
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    for gene, text in content.items():
        if not isinstance(text, str):
            raise InputError(f"{gene!r} has {type(text).__name__}, not a text ({path})")
    vectorizer = TfidfVectorizer(sublinear_tf=True, stop_words="english", min_df=2)
    try:
        weights = vectorizer.fit_transform(content.values())
    except ValueError as error:  # scikit-learn's word for an empty vocabulary
        raise InputError(f"no word occurs in two of the texts: {error} ({path})") from error
    limit = min(weights.shape)
    dim, note = chosen_dim(dim, TEXT_DIM, limit - 1)
    if not 1 <= dim < limit:
        raise ArgumentError(
            f"dim has to be from 1 to {limit - 1}, as there are {weights.shape[0]} texts with "
            f"{weights.shape[1]} different words; got {dim} ({path})"
        )
    svd = TruncatedSVD(n_components=dim, algorithm="arpack", random_state=0)
    matrix = fix_signs(svd.fit_transform(weights))
    # a text without known words is exactly zero before the rotation, and stays so
    matrix[np.diff(weights.indptr) == 0] = 0.0
    provenance = {"file": path.name, "read as": "texts, TF-IDF, truncated SVD", "dim": dim, **note}
    with naming_file(path):
        return Embedding(name, tuple(content), matrix, provenance)
