"""The name of `acoupi.provisioning` in rendered files."""
