"""Which services run, and how a program is loaded: one description for everything."""
