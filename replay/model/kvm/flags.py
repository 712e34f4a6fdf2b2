"""Behaviour flags: one row for each historical change of KVM's ITS that a model can show.

A flag is True (or has the newer number) where the fixed or newer behaviour holds. Fixes are
backported and left out, so a set of flags belongs to a kernel image, not to a release; the first
release in a row is that of the mainline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NamedTuple


class FlagRow(NamedTuple):
    """One behaviour flag: its name, and where it comes from.

    Attributes:
        name: field of `KvmFlags`; says what the fixed or newer behaviour does.
        bug: number in its.md section 5 ("-" where it has none).
        commit: mainline commit that made the flag true ("unknown" where it was only seen in code).
        subject: subject of the commit, without the "KVM: arm64:" prefix.
        first: first mainline release, or "unknown".
    """

    name: str
    bug: str
    commit: str
    subject: str
    first: str


FLAGS: Final[tuple[FlagRow, ...]] = (
    FlagRow(
        "ctrl_reset_supported",
        "K1",
        "3eb4271b4ab6",
        "vgic-its: Implement KVM_DEV_ARM_ITS_CTRL_RESET",
        "v4.15",
    ),
    FlagRow(
        "baser_invalid_frees_list",
        "K2",
        "36d6961c2b48",
        "vgic-its: Free caches when GITS_BASER Valid bit is cleared",
        "v4.15",
    ),
    FlagRow(
        "enable_requires_valid_tables",
        "K3",
        "c9b51bb60d94",
        "vgic-its: Check CBASER/BASER validity before enabling the ITS",
        "v4.15",
    ),
    FlagRow(
        "baser_change_frees_list",
        "K4",
        "8cd92f77ae4f",
        "vgic-its: Free the caches when GITS_BASER changes",
        "v7.3",
    ),
    FlagRow(
        "movall_moves_source_only",
        "K5",
        "751f4641560b",
        "vgic-its: Fix MOVALL handling of source redistributor",
        "v7.3 (false since v6.10)",
    ),
    FlagRow(
        "unknown_ctrl_attr_fails",
        "K6",
        "4530256f3699",
        "return -ENXIO for an invalid CTRL attribute of the ITS",
        "v6.17",
    ),
    FlagRow(
        "disable_lpis_retires_queued",
        "K7",
        "96085b949672",
        "vgic-v3: Retire pending interrupts on disabling LPIs",
        "v5.1",
    ),
    FlagRow(
        "disable_lpis_clears_pending_latch",
        "K7",
        "unknown",
        "vgic: Handle race between interrupt affinity change and LPI disabling",
        "v7.2 or earlier",
    ),
    FlagRow(
        "save_pending_rereads_each_table",
        "K10",
        "ca185b260951",
        "vgic: Don't rely on the wrong pending table",
        "v5.5",
    ),
    FlagRow(
        "translation_cache_entries_per_vcpu",
        "K15",
        "89489ee9ced8",
        "vgic-its: Cache successful MSI->LPI translation (0: no cache, -1: unbounded)",
        "v5.4",
    ),
    FlagRow(
        "translation_cache_per_its",
        "K15",
        "8201d1028caa",
        "vgic-its: Maintain a translation cache per ITS",
        "v6.10",
    ),
    FlagRow(
        "lpis_walked_in_intid_order",
        "K15",
        "64c115c80fc8",
        "vgic-its: Walk the LPI xarray (a list in order of mapping before)",
        "v6.10",
    ),
    FlagRow(
        "enable_lpis_visits_every_lpi",
        "K15",
        "720f73b750e6",
        "vgic-its: Walk LPI xarray in its_sync_lpi_pending_table()",
        "v6.10",
    ),
    FlagRow(
        "mapd_unmap_clears_dte",
        "K17",
        "e9649129d33d",
        "vgic-its: Clear DTE when MAPD unmaps a device",
        "v6.13",
    ),
    FlagRow(
        "discard_clears_ite",
        "K18",
        "7602ffd1d5e8",
        "vgic-its: Clear ITE when DISCARD frees an ITE",
        "v6.13",
    ),
    FlagRow(
        "restore_accepts_unmapped_collections",
        "K20",
        "8c58be34494b",
        "vgic-its: Fix restoration of unmapped collections",
        "v5.6",
    ),
    FlagRow(
        "failed_itt_restore_frees_device",
        "K21",
        "a2b19e6e2d4b",
        "vgic-its: Cleanup after failed ITT restore",
        "v4.12",
    ),
    FlagRow(
        "mapti_requires_backed_ite",
        "K22",
        "cafe7e544d49",
        "vgic: Check that new ITEs could be saved in guest memory",
        "v5.19",
    ),
    FlagRow(
        "restore_requires_reachable_entries",
        "K22",
        "243b1f6c8f07",
        "vgic: Add more checks when restoring ITS tables",
        "v5.19",
    ),
    FlagRow(
        "restore_rejects_unreachable_collections",
        "K22",
        "a1ccfd6f6e06",
        "vgic: Do not ignore vgic_its_restore_cte failures",
        "v5.19",
    ),
    FlagRow(
        "failed_restore_frees_state",
        "K22",
        "8c5e74c90bb5",
        "vgic: Undo work in failed ITS restores",
        "v5.19",
    ),
    FlagRow(
        "save_zeroes_ite_without_collection",
        "K23",
        "c6c156d931c3",
        "vgic-its: Don't dereference a NULL collection on ITT save",
        "v7.2 or earlier",
    ),
    FlagRow(
        "save_chains_past_zeroed_ites",
        "K23",
        "ad1e686e2378",
        "vgic-its: Point saved ITEs at next valid entry",
        "v7.3",
    ),
    FlagRow(
        "save_skips_unreachable_devices",
        "K24",
        "cc5d96036e01",
        "vgic-its: Skip unreachable devices instead of failing the save",
        "v7.3",
    ),
    FlagRow(
        "restore_rejects_wide_devices",
        "K25",
        "9ce754ed8e7a",
        "vgic-its: Reject restored DTE with out-of-range num_eventid_bits",
        "v7.2 or earlier",
    ),
    FlagRow(
        "target_is_vcpu_id",
        "K26",
        "d455d366c451",
        "vgic-its: Treat the collection target address as a vcpu_id",
        "v6.7",
    ),
    FlagRow(
        "mapc_unmap_ignores_target",
        "K26",
        "d455d366c451",
        "vgic-its: Treat the collection target address as a vcpu_id",
        "v6.7",
    ),
    FlagRow(
        "outer_cacheability_same_as_inner",
        "K27",
        "731532176716",
        "Change default outer cacheability for {PEND,PROP}BASER",
        "v5.9",
    ),
    FlagRow(
        "discard_requires_mapped_collection",
        "K28",
        "unknown",
        "vgic-its: Check hopefully the last DISCARD command error",
        "v5.6",
    ),
    FlagRow(
        "failed_lpi_mapping_frees_it",
        "K30",
        "57bdb436ce86",
        "vgic-its: Fix memory leak on the error path of vgic_add_lpi()",
        "v5.7",
    ),
    FlagRow(
        "addresses_have_52_bits",
        "-",
        "unknown",
        "vgic: Add support for 52bit guest physical address",
        "v4.20",
    ),
    FlagRow(
        "save_skips_invalid_tables",
        "K1",
        "unknown",
        "vgic-its: Always attempt to save/restore device and collection tables",
        "v4.15",
    ),
    FlagRow(
        "restore_accepts_empty_and_full_tables",
        "K1",
        "unknown",
        "vgic-its: Fix vgic_its_restore_{collection,device}_table(s) returned value",
        "v4.15",
    ),
    FlagRow(
        "restore_scan_stops_at_table_end",
        "-",
        "c000a2607145",
        "vgic: Fix exit condition in scan_its_table()",
        "v6.1",
    ),
    FlagRow(
        "pendbaser_ptz_reads_zero",
        "-",
        "unknown",
        "vgic: Handle GICR_PENDBASER.PTZ field as RAZ",
        "v5.6",
    ),
    FlagRow(
        "lpis_are_group1",
        "-",
        "unknown",
        "vgic: LPIs are in group 1",
        "v4.19",
    ),
    FlagRow(
        "gic_implementation_revision",
        "-",
        "49a1a2c70a7f",
        "vgic-v3: Advertise GICR_CTLR.{IR, CES} as a new GICD_IIDR revision",
        "v5.19",
    ),
    FlagRow(
        "gicd_iidr_takes_new_revision",
        "-",
        "unknown",
        "vgic: Fix IIDR revision field extracted from wrong value",
        "v7.2 or earlier",
    ),
    FlagRow(
        "gicd_typer2_fixed_once_initialised",
        "-",
        "unknown",
        "vgic-v3: Allow userspace to write GICD_TYPER2.nASSGIcap (-EBUSY, -EINVAL before)",
        "v6.17",
    ),
    FlagRow(
        "debugfs_hides_intids_above_16_bits",
        "-",
        "unknown",
        "vgic-debug: Use an xarray mark for debug iterator",
        "v6.10",
    ),
    FlagRow(
        "debugfs_names_vcpu_index",
        "K26",
        "unknown",
        "vgic: Use vcpu_idx for the debug information (the vcpu_id before)",
        "v6.7",
    ),
    FlagRow(
        "lpi_invalidation_registers",
        "-",
        "4645d11f4a55",
        "vgic-v3: Implement MMIO-based LPI invalidation",
        "v5.19",
    ),
    FlagRow(
        "invlpir_ignores_other_intids",
        "-",
        "d561491ba927",
        "vgic-v3: Sanitise guest writes to GICR_INVLPIR",
        "v6.13",
    ),
    FlagRow(
        "vmm_sees_gicr_typer_last",
        "-",
        "28e9d4bce3be",
        "vgic-v3: Expose GICR_TYPER.Last for userspace",
        "v5.13",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KvmFlags:
    """The behaviour of one kernel image. The defaults are the newest behaviour, one field a row."""

    ctrl_reset_supported: bool = True
    baser_invalid_frees_list: bool = True
    enable_requires_valid_tables: bool = True
    baser_change_frees_list: bool = True
    movall_moves_source_only: bool = True
    unknown_ctrl_attr_fails: bool = True
    disable_lpis_retires_queued: bool = True
    disable_lpis_clears_pending_latch: bool = True
    save_pending_rereads_each_table: bool = True
    translation_cache_entries_per_vcpu: int = -1
    translation_cache_per_its: bool = True
    lpis_walked_in_intid_order: bool = True
    enable_lpis_visits_every_lpi: bool = True
    mapd_unmap_clears_dte: bool = True
    discard_clears_ite: bool = True
    restore_accepts_unmapped_collections: bool = True
    failed_itt_restore_frees_device: bool = True
    mapti_requires_backed_ite: bool = True
    restore_requires_reachable_entries: bool = True
    restore_rejects_unreachable_collections: bool = True
    failed_restore_frees_state: bool = True
    save_zeroes_ite_without_collection: bool = True
    save_chains_past_zeroed_ites: bool = True
    save_skips_unreachable_devices: bool = True
    restore_rejects_wide_devices: bool = True
    target_is_vcpu_id: bool = True
    mapc_unmap_ignores_target: bool = True
    outer_cacheability_same_as_inner: bool = True
    discard_requires_mapped_collection: bool = True
    failed_lpi_mapping_frees_it: bool = True
    addresses_have_52_bits: bool = True
    save_skips_invalid_tables: bool = True
    restore_accepts_empty_and_full_tables: bool = True
    restore_scan_stops_at_table_end: bool = True
    pendbaser_ptz_reads_zero: bool = True
    lpis_are_group1: bool = True
    gic_implementation_revision: int = 3
    gicd_iidr_takes_new_revision: bool = True
    gicd_typer2_fixed_once_initialised: bool = True
    debugfs_hides_intids_above_16_bits: bool = True
    debugfs_names_vcpu_index: bool = True
    lpi_invalidation_registers: bool = True
    invlpir_ignores_other_intids: bool = True
    vmm_sees_gicr_typer_last: bool = True
