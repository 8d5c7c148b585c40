"""The technician's web console. Importing this package loads nothing heavy: see app and server."""
