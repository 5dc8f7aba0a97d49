"""How many sensors are, from the messages that they send: which are silent, and which unwell."""
