"""Hashes that tell whether a result still belongs to its inputs and options."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np


def digest(*parts: Any) -> str:
    """Return 32 hexadecimal digits for JSON-like values and NumPy arrays, in their order."""
    hasher = hashlib.blake2b(digest_size=16)
    for part in parts:
        if isinstance(part, np.ndarray):
            hasher.update(f"{part.dtype.str}{part.shape}".encode())
            hasher.update(np.ascontiguousarray(part).view(np.uint8).data)
        else:
            text = json.dumps(part, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
            hasher.update(text.encode(errors="surrogatepass"))  # any name has a hash
        hasher.update(b"\0")
    return hasher.hexdigest()


def seed_from(*parts: Any) -> int:
    """Return a 32-bit seed that depends on names, never on the order of completion."""
    return int(digest(*parts)[:8], 16)
