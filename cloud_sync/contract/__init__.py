"""The wire contract as files that another language can be written from."""
