"""Child processes: for libraries that log, patch other packages or crash, and for whatever is measured by itself.

A worker is a module that is run by ``python -m`` and calls :func:`p3m_edge.workers.child.serve` with its operations;
:class:`p3m_edge.workers.parent.Worker` starts it and calls them. The two exchange messages
(:mod:`p3m_edge.workers.messages`) over the child's stdin and stdout:

- Nothing but answers reaches the parent: what libraries print, from C++ too, goes to stderr, which the parent keeps.
- An operation may report its progress. An exception in it is an answer, and the worker lives on.
- A process that dies is an error that names the signal or exit code, and its last words.
- Ctrl-C is ignored by the child; the parent decides, and ends it.
- A child whose parent has closed the pipe, or is no more, is told (:data:`p3m_edge.workers.child.called_off`), and is
  ended if it does not end by itself.
"""
