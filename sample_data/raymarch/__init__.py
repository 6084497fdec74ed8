"""A small signed-distance ray marcher for still lifes on a table."""
