"""illico, gene by gene from a log-normalised CSC h5ad (see prepare_csc.py): little memory."""

from __future__ import annotations

from arguments import parse
from stages import CONTROL, GROUP, Stages, count, perturbations, report, toy_data


def main() -> None:
    """Run."""
    stages, arguments = Stages(), parse(__doc__)
    with stages("import"):
        import anndata
        from illico import asymptotic_wilcoxon
    options = {"is_log1p": True, "group_keys": GROUP, "reference": CONTROL}
    with stages("warm"):
        asymptotic_wilcoxon(toy_data(), n_threads=arguments.threads, **options)
    with stages("load"):
        data = anndata.read_h5ad(arguments.file, backed="r")
    with stages("test"):
        asymptotic_wilcoxon(data, n_threads=arguments.threads, **options)
    names = perturbations(data)
    report(stages, count(names, names))


if __name__ == "__main__":
    main()
