"""The reference backend: takes what gateways send, acknowledges after the commit, sends orders."""
