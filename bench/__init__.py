"""Measurements side by side: `python -m bench [NAME...] [--quick]`. Every number is measured here and now."""
