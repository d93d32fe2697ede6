"""Python without asserts (``-O``, ``PYTHONOPTIMIZE``): whether our dependencies work there."""

from __future__ import annotations


def check_optimized() -> None:
    """Refuse to go on without asserts where Zarr needs them: no store could be opened.

    Zarr up to 3.1 takes entries out of metadata inside of assert statements.

    Raises
    ------
    ImportError
    """
    if __debug__:
        return
    import zarr
    from zarr.storage import MemoryStore

    store = MemoryStore()
    zarr.create_group(store, zarr_format=3).create_group("inner")
    try:
        zarr.open_group(store, path="inner", mode="r", zarr_format=3)
        zarr.open_group(store, mode="r", zarr_format=3)["inner"]
    except TypeError as error:
        raise ImportError(
            f"Zarr {zarr.__version__}, which pertscale stores everything with, can't open what it "
            "has written where Python leaves assert statements out; run Python without -O and "
            "without PYTHONOPTIMIZE in the environment"
        ) from error
