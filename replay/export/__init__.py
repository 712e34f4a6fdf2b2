"""A trace in other forms: reproducers for a stock QEMU and a KVM host, and forms for other tools."""
