"""Many pictures on many machines, on Ray: local folders and object stores, with a marker for each that is done.

The truth about what is done are the markers in the output (:mod:`~p3m_edge.bulk.plan`), not what Ray remembers: workers
and drivers may be killed at any time. Each picture goes through the function that folders run through; Ray only hands
out shards of pictures. Packages of the extra ``ray`` are imported inside functions.
"""
