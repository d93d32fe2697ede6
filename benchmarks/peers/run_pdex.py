"""pdex: load into memory, normalise, test the first perturbations. Adjusts p-values."""

from __future__ import annotations

from typing import Any

import numpy as np

from arguments import parse
from stages import (
    CONTROL,
    GROUP,
    Stages,
    choose_first,
    count,
    load,
    log_normalise,
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
        from pdex import pdex

    def test(data: Any) -> Any:
        return pdex(
            data, GROUP, mode="ref", threads=arguments.threads, is_log1p=True, reference=CONTROL
        )

    def cells_of(data: Any, names: list[str]) -> Any:
        return data[np.flatnonzero(data.obs[GROUP].isin([*names, CONTROL]))].copy()

    with stages("warm"):
        test(toy_data())
    with stages("load"):
        data = load(arguments.file)
    if arguments.scale == "counts":
        with stages("normalise"):
            log_normalise(data.X)
    names = perturbations(data)
    first = choose_first(
        names, lambda some: test(cells_of(data, some)), stages, budget=arguments.budget
    )
    part = data
    if len(first) < len(names):
        with stages("select"):  # pdex has no argument for this; not counted
            part = cells_of(data, first)
    with stages("test"):
        table = test(part)
    if arguments.p_values:
        genes = list(data.var_names)
        wide = table.to_pandas().pivot(index="target", columns="feature", values="p_value")
        write_p_values(arguments.p_values, first, genes, wide.loc[first, genes].to_numpy())
    report(stages, count(first, names))


if __name__ == "__main__":
    main()
