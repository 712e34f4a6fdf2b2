"""Linux KVM's in-kernel ITS. Import from the modules: `vm` has the entry point."""
