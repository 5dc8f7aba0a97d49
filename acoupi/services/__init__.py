"""What runs in the services of a sensor: workers, beat, and how they reach the broker."""
