"""Ratios against stock Celery, measured in one run: `python -m benchmarks`."""
