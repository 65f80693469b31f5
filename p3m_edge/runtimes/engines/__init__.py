"""The engines that run a model file, one module each; see :mod:`p3m_edge.runtimes.contract`."""
