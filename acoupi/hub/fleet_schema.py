"""The tables of settings that a hub gives to its sensors."""

__all__ = ["FLEET_TABLES"]

FLEET_TABLES: tuple[str, ...] = ()
