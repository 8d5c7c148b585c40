"""A world from a seed: the real gateway among virtual meters, lines, cloud, people and faults."""
