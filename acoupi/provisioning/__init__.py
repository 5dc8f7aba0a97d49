"""A home that sets itself up from variables, a file or a URL: see README.md in this folder.

``python -m acoupi.provisioning`` is the service that does it.
"""
