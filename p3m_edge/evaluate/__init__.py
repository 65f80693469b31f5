"""Evaluation: the published inference strategies, data sets and tables."""
