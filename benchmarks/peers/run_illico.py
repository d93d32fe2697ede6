"""illico: load into memory, normalise, test. No adjusted p-values, nothing written."""

from __future__ import annotations

from typing import Any

from arguments import parse
from stages import (
    CONTROL,
    GROUP,
    Stages,
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
        from illico import asymptotic_wilcoxon

    def test(data: Any) -> Any:
        return asymptotic_wilcoxon(
            data, is_log1p=True, group_keys=GROUP, reference=CONTROL, n_threads=arguments.threads
        )

    with stages("warm"):
        test(toy_data())
    with stages("load"):
        data = load(arguments.file)
    if arguments.scale == "counts":
        with stages("normalise"):
            log_normalise(data.X)
    names = perturbations(data)
    with stages("test"):
        table = test(data)
    if arguments.p_values:
        genes = list(data.var_names)
        p = table["p_value"].unstack("feature").loc[names, genes].to_numpy()
        write_p_values(arguments.p_values, names, genes, p)
    report(stages, count(names, names))


if __name__ == "__main__":
    main()
