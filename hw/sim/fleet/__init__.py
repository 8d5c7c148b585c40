"""Many gateways that speak the contract, for real brokers and backends."""
