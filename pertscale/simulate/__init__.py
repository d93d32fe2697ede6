"""Realistic synthetic screens with a known truth, streamed to h5ad."""

from pertscale._lazy import public_dir
from pertscale.simulate.screen import SimulatedScreen, simulate_screen

__all__ = ["SimulatedScreen", "simulate_screen"]

__dir__ = public_dir(__all__)
