"""A hub, which many sensors report to: its database, and what reads it."""
