"""Attacks that replace what malicious clients send, after everybody has trained."""
