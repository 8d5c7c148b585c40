"""Between a gateway and its cloud: the wire contract, both ends of it, and a reference backend."""
