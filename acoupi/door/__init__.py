"""The door: how a service that may not write the stores has its calls made by the one that may.

Told in `acoupi/services/README.md`.
"""
