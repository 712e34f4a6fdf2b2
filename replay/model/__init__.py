"""The ITS as it behaves: pure state machines. They know neither events nor files.

`memory` and `effects` are shared. Each family of implementations has a package of its own, because
where mappings live (guest RAM in QEMU, kernel lists in KVM) shapes every handler; what differs
inside a family is a flag in its profile.
"""
