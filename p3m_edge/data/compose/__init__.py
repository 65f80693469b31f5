"""Composites: people of portrait sets before other backgrounds, and the backgrounds that portraits themselves have."""
