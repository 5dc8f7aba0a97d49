"""The door: calls from a service that may not write the stores to the one that may.

See `acoupi/services/README.md`.
"""
