"""The tariff kernel in C. This file must not load it: the build imports the package first."""
