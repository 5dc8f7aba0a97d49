"""The web page of one sensor."""
