"""The broker between gateways and backend: what it must be told, as files for Mosquitto and NATS."""
