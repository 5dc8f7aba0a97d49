"""Celery lives in `acoupi.services`; this package keeps the names in rendered files."""
