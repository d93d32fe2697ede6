"""Realistic synthetic screens with a known truth, streamed to h5ad."""

from pertscale.simulate.screen import SimulatedScreen, simulate_screen

__all__ = ["SimulatedScreen", "simulate_screen"]
