"""The whole loop on real daemons: Git, the controller as its own process, and what a node would get from the network."""
