"""What outsiders can check: Merkle trees over the gateways' checkpoints, signed heads, and their proofs."""
