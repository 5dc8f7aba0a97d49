"""Alarms: rules about the state of a sensor, as pure functions.

`facts` holds what is known, `rules` judge it by the `limits` of the sensor, and `episodes`
turns verdicts into alarms that begin and end once. Nothing here reads a store, a disk or a clock.
"""
