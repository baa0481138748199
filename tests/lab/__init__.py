"""The real lab: network namespaces as machines, real daemons in them, and real clients that prove what a node gets."""
