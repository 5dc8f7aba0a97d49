"""Celery lives in `acoupi.services`; this package keeps names that rendered files use."""
