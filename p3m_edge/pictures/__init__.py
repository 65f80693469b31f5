"""Picture files matted: which ones, where the results go, and what is written."""
