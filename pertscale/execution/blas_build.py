"""Which BLAS a result was made with.

The kernels of a BLAS library differ between processors and add up in other orders, so the last
digits of what is fitted do, too; everything else is the same on every machine.
"""

from __future__ import annotations

from functools import cache

from threadpoolctl import ThreadpoolController


@cache
def blas_libraries() -> list[dict[str, str]]:
    """Return the BLAS libraries of NumPy and SciPy, each with the kernels that it has chosen."""
    import scipy.linalg  # noqa: F401  (loads its library, if that is not NumPy's)

    found = {
        (pool.internal_api, str(pool.version), str(getattr(pool, "architecture", None)))
        for pool in ThreadpoolController().lib_controllers
        if pool.user_api == "blas"
    }
    return [{"library": api, "version": v, "architecture": a} for api, v, a in sorted(found)]
