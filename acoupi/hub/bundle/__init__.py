"""What runs a hub: its services, rendered for Compose and Kubernetes by the code of a sensor's."""
