"""The base model and its adapters: weights, layers, attention, loss."""
