"""Attacks that poison a client's data before training."""
