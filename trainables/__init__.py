"""The learning side: tasks, model, strategies and the one training loop; runs without Ray."""
