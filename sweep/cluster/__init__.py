"""Ray: the cluster, its nodes, and what runs on them."""
