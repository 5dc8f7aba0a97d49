"""The name that rendered files have for `acoupi.provisioning`."""
