"""Attacks that change how a malicious client trains."""
