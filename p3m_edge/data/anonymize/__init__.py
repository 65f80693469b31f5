"""Ordinary portraits become a P3M-style set without faces: hiding faces, and whole folders of pictures."""
