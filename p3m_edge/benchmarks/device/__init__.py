"""Measuring on another machine: a bundle to copy there, what runs in it, and what its result verifies."""
