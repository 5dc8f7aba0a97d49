"""The services of a sensor: workers, beat, and how they reach the broker."""
