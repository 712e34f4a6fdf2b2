"""Seeded lives of a VM: what a guest and its VMM do, dense enough that caches and lists fill."""
