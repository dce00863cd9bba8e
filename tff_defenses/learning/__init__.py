"""Client training and the federated computations that use the factories."""
