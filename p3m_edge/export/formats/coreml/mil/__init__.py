"""A reference interpreter for Core ML's ML Programs: what a package computes, on any system."""
