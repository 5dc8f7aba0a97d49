"""The state of many sensors from their messages: which are silent, and which unwell."""
