"""scanpy: load into memory, normalise, test the first perturbations. Adjusts p-values."""

from __future__ import annotations

from typing import Any

import numpy as np

from arguments import parse
from stages import (
    CONTROL,
    GROUP,
    TARGET,
    Stages,
    choose_first,
    count,
    load,
    perturbations,
    report,
    toy_data,
    write_p_values,
)


def main() -> None:
    """Run."""
    stages, arguments = Stages(), parse(__doc__)
    with stages("import"):
        import anndata  # noqa: F401 - so that it counts as import
        import scanpy as sc

    def test(data: Any, names: list[str]) -> None:
        sc.tl.rank_genes_groups(
            data, GROUP, groups=names, reference=CONTROL, method="wilcoxon", tie_correct=True
        )

    with stages("warm"):
        toy = toy_data()
        sc.pp.normalize_total(toy, target_sum=TARGET)
        test(toy, perturbations(toy))
    with stages("load"):
        data = load(arguments.file)
    if arguments.scale == "counts":
        with stages("normalise"):
            sc.pp.normalize_total(data, target_sum=TARGET)
            sc.pp.log1p(data)
    names = perturbations(data)
    first = choose_first(names, lambda some: test(data, some), stages, budget=arguments.budget)
    with stages("test"):
        test(data, first)
    if arguments.p_values:
        genes, result = list(data.var_names), data.uns["rank_genes_groups"]
        order = [np.argsort(data.var_names.get_indexer(result["names"][n])) for n in first]
        p = np.array([result["pvals"][n][o] for n, o in zip(first, order, strict=True)])
        write_p_values(arguments.p_values, first, genes, p)
    report(stages, count(first, names))


if __name__ == "__main__":
    main()
