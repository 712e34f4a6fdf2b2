"""QEMU's own ITS (arm-gicv3-its under TCG): every mapping lives in guest RAM, nothing is cached.

Read from QEMU 7.2's hw/intc/arm_gicv3_its.c, arm_gicv3_its_common.c, arm_gicv3_redist.c and
arm_gicv3_common.c; 7.2.22 and 10.0.13 were measured to answer alike.
"""
