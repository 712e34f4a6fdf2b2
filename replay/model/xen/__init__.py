"""Xen's virtual ITS (dom0 only): tables in guest RAM, host devices and pending LPIs beside them.

Read, never run: xen/arch/arm/vgic-v3-its.c, vgic-v3.c, gic-v3-its.c, gic-v3-lpi.c and guestcopy.c
of xen-project/xen (@0b6122a1172b of 2017, @03957f58db89) and of forks up to 2026; where they tell
of the same thing they tell the same. None of these trees calls itself 4.20: the profile's name
stands for all between. What no source settles is said where it is modelled.
"""
