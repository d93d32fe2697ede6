"""SciPy's asymptotic Mann-Whitney test, one perturbation at a time, in float64: the referee."""

from __future__ import annotations

import numpy as np
from scipy.stats import mannwhitneyu

from arguments import parse
from stages import CONTROL, GROUP, Stages, count, load, perturbations, report, write_p_values


def main() -> None:
    """Run on log-normalised values."""
    stages, arguments = Stages(), parse(__doc__)
    data = load(arguments.file)
    dense, labels = data.X.toarray().astype(np.float64), data.obs[GROUP].to_numpy(str)
    control, names = dense[labels == CONTROL], perturbations(data)
    with stages("test"):
        p = [mannwhitneyu(dense[labels == n], control, method="asymptotic").pvalue for n in names]
    write_p_values(arguments.p_values, names, list(data.var_names), np.array(p))
    report(stages, count(names, names))


if __name__ == "__main__":
    main()
