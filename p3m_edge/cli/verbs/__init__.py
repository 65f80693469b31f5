"""The verbs of ``p3m-edge``, a module each; :mod:`p3m_edge.cli` says what is in them."""
