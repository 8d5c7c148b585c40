"""DL/T 645-2007: frames, data items and the supply command, without a line."""
