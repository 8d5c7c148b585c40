"""The twin of the hardware: virtual meters, lines, relays, a street. Only cli, build.py and tests import it."""
