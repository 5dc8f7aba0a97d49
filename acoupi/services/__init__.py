"""Celery: the app of a sensor, its workers, its beat and its embedded broker."""
