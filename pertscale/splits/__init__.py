"""Which perturbations a method is fitted on and which it is judged on.

A :class:`Split` names perturbations, never cells: all cells and all genes of a perturbation fall on
the same side (method D1). The controls are in no part; every method may use them. A double shares
genes with its singles: drawn splits keep genes apart with ``gene_disjoint=True``, and
:func:`with_seen_genes` names what is held out though a gene of it is trained on. A new rule is a
function that returns a :class:`Split` with a ``kind`` of its own.

The validation part is held out and scored together with the test part, for classes as for
expression (:attr:`Split.held_out`): nothing of ours is fitted or tuned on it, and models that are
driven do not see it. Perturbations that a model may tune itself on belong to the training part.
"""

from pertscale._lazy import public_dir
from pertscale.splits.drawn import holdout, k_fold, repeated_holdout, with_seen_genes
from pertscale.splits.published import doubles_split, gears_simulation
from pertscale.splits.split import Split

__all__ = [
    "Split",
    "doubles_split",
    "gears_simulation",
    "holdout",
    "k_fold",
    "repeated_holdout",
    "with_seen_genes",
]

__dir__ = public_dir(__all__)
