"""What many sensors report to: their database, and what reads it."""
