"""Notices told to customers: by SMS, e-mail or webhook, once, with proof, which goes back to the gateway."""
