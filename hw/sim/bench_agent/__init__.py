"""What the whole agent costs: memory, processor, start, flash; beside two gateways that read the same meters."""
