"""The services of a hub, rendered for Compose and Kubernetes by the same code as a sensor's."""
