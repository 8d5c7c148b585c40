"""Payments from channels: an HTTP API that places signed credits, once."""
