"""What containers are made of: rendering, images, the engine, and the checks before a start."""
