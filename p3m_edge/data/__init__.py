"""Portraits with their mattes: data sets, trimaps, foregrounds, anonymising, synthesis, copy and paste. No PyTorch."""
