"""Embeddings from the files that people have."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pertscale.arguments import checked
from pertscale.embeddings import files
from pertscale.embeddings.embedding import Embedding
from pertscale.embeddings.files import Orientation
from pertscale.embeddings.gene_sets import from_gene_sets
from pertscale.embeddings.texts import from_text_dict
from pertscale.errors import ArgumentError
from pertscale.io.guards.damage import naming_file
from pertscale.storage.publish import local_copy

if TYPE_CHECKING:
    pass


@checked
def read(
    path: str | os.PathLike[str],
    *,
    key: str | None = None,
    name: str | None = None,
    orientation: Orientation | None = None,
    allow_pickle: bool = False,
) -> Embedding:
    """Read an embedding from a file; the suffix says the format.

    Parameters
    ----------
    path
        Path or URL. ``.csv``, ``.tsv``, ``.txt`` (also gzipped) or ``.parquet``: a table with one
        gene per row, or one per column as the second paper writes them (method K1). ``.npz``:
        `names` and `matrix`.
        ``.h5ad``: an entry of `obsm` or `varm`. ``.json``: gene → vector, or gene → text
        (:func:`from_texts`). ``.gmt``: gene sets (:func:`from_gene_sets`). ``.pkl``: a dictionary
        gene → vector, as GenePT is published.
    key
        The array of an ``.npz`` or the entry of an ``.h5ad`` (``"varm/PCs"``), where there are
        several.
    name
        Name of the embedding, by default the file's without its suffix.
    orientation
        ``"rows"`` if each row of a table is a gene, ``"columns"`` if each column is. Found out from
        the table, except where both sides look like names.
    allow_pickle
        Whether a pickle may be read. Even then only plain data and arrays are, and nothing in the
        file is run (:mod:`pertscale.io.guards.safe_pickle`).

    Raises
    ------
    NotFoundError, CorruptFileError
        The file is missing or damaged.
    AmbiguousInputError
        Several readings are possible; the message names the argument that decides.
    InputError
        The content is not an embedding.

    References
    ----------
    Chen and Zou (2023), GenePT, https://doi.org/10.1101/2023.10.16.562533

    Examples
    --------
    >>> table = pd.DataFrame([[1.0, 0.0], [0.5, 0.5]], index=["GATA1", "KLF1"])
    >>> table.to_csv("genept.csv")
    >>> ps.read_embedding("genept.csv").vectors(["KLF1"])
    array([[0.5, 0.5]])
    """
    path = local_copy(path)
    suffix = files.suffix_of(path)
    name = name or path.name.removesuffix(".gz")[: -len(suffix) or None]
    if suffix in (".gmt", ".json") and (key is not None or orientation is not None):
        raise ArgumentError(f"key and orientation have no meaning for {suffix} files ({path})")
    if suffix == ".gmt":
        return from_gene_sets(path, name=name)
    if suffix == ".json":
        content = files.read_json_object(path)
        if all(isinstance(value, str) for value in content.values()):
            return from_text_dict(content, dim=None, name=name, path=path)
        found = files.vectors_of_dict(content, path)
    else:
        found = files.read_vectors(
            path, key=key, orientation=orientation, allow_pickle=allow_pickle
        )
    with naming_file(path):
        return Embedding(name, found.names, found.matrix, {"file": path.name, "read as": found.how})
