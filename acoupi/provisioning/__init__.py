"""Setting a home up from variables, a file or a URL, without a person: see README.md here.

``python -m acoupi.provisioning`` is the service that does it.
"""
